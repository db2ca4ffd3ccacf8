"""A reader of the documentation: has the files of which the pages speak, and types in what they show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import lmdb

from ristretto.data.datum import parse_datum
from tests.docs.pages import ROOT, Block

MODELS = ROOT / "models"
LENET = MODELS / "digits_lenet"
LIMIT = 300
"""Seconds that a page may take."""


def prepare(folder: Path, home: Path) -> None:
    """What a reader has: the nets that come with the tool, one of them as ``train_val.prototxt``, and some photos."""
    shutil.copytree(MODELS, folder / "models")
    (folder / "digits_data").symlink_to("models/digits_data")  # where the net's sources are looked for
    for name in ("train_val.prototxt", "deploy.prototxt"):
        shutil.copy(LENET / name, folder)
    shutil.copy(LENET / "digits_lenet.caffemodel", folder / "net.caffemodel")
    (home / ".config" / "fish" / "completions").mkdir(parents=True)
    programs = home / "bin"
    programs.mkdir()
    for name, words in (("ristretto", "-m ristretto "), ("python", ""), ("python3", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        program.chmod(0o755)


def write_photos(folder: Path, each: int = 10) -> None:
    """Some digits as PNG files, in a folder for each class; they come from the copy that ``prepare`` put beside it."""
    found: dict[int, int] = {}
    # The database itself may be open in this process: a net that another test ran keeps it until it is collected.
    database = lmdb.open(str(folder.parent / "models" / "digits_data" / "test_lmdb"), readonly=True, lock=False)
    with database, database.begin() as transaction:
        for _, record in transaction.cursor():
            pixels, label = parse_datum(record, None)
            number = found[int(label)] = found.get(int(label), 0) + 1
            if number <= each:
                target = folder / str(int(label))
                target.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(target / f"{number}.png"), pixels[0])


def read(blocks: Sequence[Block], folder: Path, home: Path, skipped: Sequence[str] = ()) -> list[str]:
    """Do what a page shows, block after block in one shell, and return what each block printed.

    Shell variables live on to the next block; Python's names to the next ``python`` block, unless commands lie between.
    The page is given up at the first command that fails.

    Args:
        blocks: the page's blocks.
        folder: where its commands run.
        home: the reader's home folder, in which `prepare` put the programs.
        skipped: beginnings of lines that are left out.

    Raises:
        AssertionError: a command failed; with what it printed.
    """
    work = home / "page"
    work.mkdir()
    script, program = ["set -euo pipefail"], ""
    for number, block in enumerate(blocks):
        if block.title:
            target = folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            script.append(f"cp '{_kept(work, f'file{number}', block.text)}' '{target}'")
            continue
        if not block.runs:
            continue
        if block.language == "python":
            program += f"print('\\0{number}')\n{block.text}"
            command = f"python '{_kept(work, f'{number}.py', program)}'"
        else:
            command, program = f". '{_kept(work, f'{number}.sh', _without(block.text, skipped))}'", ""
        script += [f"echo {number} > '{work}/at'", f"{command} > '{work}/{number}.out' 2>&1"]
    page = _kept(work, "page.sh", "\n".join(script) + "\n")
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", str(page)], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    if done.returncode:
        at = int((work / "at").read_text())
        told = (work / f"{at}.out").read_text()[-3000:]
        raise AssertionError(f"the block at line {blocks[at].line} fails:\n{blocks[at].text}\n{told}\n{done.stderr}")
    outputs = [work / f"{number}.out" for number in range(len(blocks))]
    texts = [output.read_text() if output.exists() else "" for output in outputs]
    return [text.rpartition("\0")[2].partition("\n")[2] if "\0" in text else text for text in texts]


def _kept(work: Path, name: str, text: str) -> Path:
    path = work / name
    path.write_text(text)
    return path


def _without(text: str, skipped: Sequence[str]) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(tuple(skipped)))
