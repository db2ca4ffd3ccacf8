"""Shell completion, asked for as a shell asks: through the script that it has read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import ristretto

Capture = pytest.CaptureFixture[str]


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word, once it has read the script."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = subprocess.run(
        [sys.executable, "-m", "ristretto", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    program = folder / "ristretto"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ristretto "$@"\n')
    program.chmod(0o755)
    typed = " ".join(f"'{word}'" for word in ("ristretto", *words))
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _ristretto_completion ristretto"
    ask += "; printf '%s\\n' ${COMPREPLY[@]}"
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [bash, "--norc", "-c", f"{script}\n{ask}"],
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(root)},
        check=True,
    )
    return found.stdout.split()


def test_commands_and_flags(tmp_path: Path) -> None:
    assert completed(tmp_path, "qu") == ["quantize"]
    flags = completed(tmp_path, "quantize", "--bw_")
    assert flags == ["--bw_conv_params", "--bw_fc_params", "--bw_activations", "--bw_bias"]


def test_choices(tmp_path: Path) -> None:
    assert completed(tmp_path, "test", "--rounding", "half") == ["half_even", "half_away", "half_up"]
    assert completed(tmp_path, "completion", "z") == ["zsh"]


@pytest.mark.parametrize("flag", ["--model", "--weights", "--report"])
def test_files_are_left_to_the_shell(capsys: Capture, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setenv("_RISTRETTO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"ristretto quantize {flag} ne")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        ristretto(capsys)
    assert capsys.readouterr().out == "file,ne\n"


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef ristretto"), ("fish", "--arg")])
def test_scripts(capsys: Capture, shell: str, sign: str) -> None:
    outcome = ristretto(capsys, "completion", shell)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"_RISTRETTO_COMPLETE={shell}_complete" in outcome.out
    assert sign in outcome.out
    assert ristretto(capsys, "completion", "tcsh").status == 2
