"""The images that a user has: a folder, a folder with a sub-folder for each class, a list, an LMDB."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ristretto.errors import DataError, UsageError
from ristretto.inputs import read_input

_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LABELLED = re.compile(r"(?P<name>.*\S)\s+(?P<label>-?[0-9]{1,10})")

Item = tuple[Path, int]
"""An image file and its label."""


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled or unlabelled images.

    Attributes:
        items: files and labels, 0 where labels are not known; nothing for a database.
        labelled: whether the labels mean something.
        database: the LMDB, or None.
        classes: the name of each label, where folders tell them.
    """

    items: tuple[Item, ...] = ()
    labelled: bool = True
    database: Path | None = None
    classes: tuple[tuple[int, str], ...] = ()


def find_images(path: Path) -> Images:
    """What images a path stands for.

    Raises:
        UsageError: there is nothing, or it is no folder, list or LMDB.
        DataError: the folder holds no images, or a line of the list makes no sense.
    """
    if not path.exists():
        raise UsageError("the images do not exist", file=str(path), cure="name a folder, an image list or an LMDB")
    if path.is_file():
        return _from_list(path)
    if (path / "data.mdb").exists():
        return Images(database=path.absolute())
    if (path / "CURRENT").exists():
        raise UsageError(
            "this is a LevelDB", file=str(path), cure="convert it to LMDB, or write the data layer by hand"
        )
    return _from_folder(path)


def _from_folder(path: Path) -> Images:
    loose = _files(path)
    folders = [folder for folder in _entries(path) if folder.is_dir() and _files(folder)]
    if loose and folders:
        what = f"there are images beside the folders of classes, such as '{loose[0].name}' beside '{folders[0].name}'"
        raise DataError(what, file=str(path), cure="keep the one or the other")
    if not loose and not folders:
        cure = f"it must hold files that end in {', '.join(sorted(_ENDINGS))}, or a folder of them for each class"
        raise DataError("the folder holds no images", file=str(path), cure=cure)
    if loose:
        return Images(tuple((file, 0) for file in loose), labelled=False)
    labels = _labels([folder.name for folder in folders])
    items = tuple((file, label) for folder, label in zip(folders, labels, strict=True) for file in _files(folder))
    return Images(
        items, classes=tuple(sorted((label, folder.name) for label, folder in zip(labels, folders, strict=True)))
    )


def _labels(names: Sequence[str]) -> list[int]:
    """The numbers that the folders are named with, if all are; else their places in sorted order."""
    if all(name.isdecimal() and name.isascii() for name in names):
        numbers = list(map(int, names))
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(len(names)))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.absolute().iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder: {error.strerror or error}", file=str(folder)) from error


def _files(folder: Path) -> list[Path]:
    files = [path for path in _entries(folder) if path.suffix.lower() in _ENDINGS and path.is_file()]
    strange = next((path for path in files if "\n" in str(path)), None)
    if strange is not None:
        what = f"the name {str(strange)!r} holds a line break, which an image list cannot"
        raise DataError(what, file=str(folder), cure="rename it")
    return files


def _from_list(path: Path) -> Images:
    """The images of a list; its relative paths start in the current folder, as for Caffe, or where the list lies."""
    try:
        lines = read_input(path).decode("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read the image list: {error.strerror or error}", file=str(path)) from error
    if any("\0" in line for line in lines[:8]):
        cure = "write one 'path label' a line; a single image goes into a folder"
        raise UsageError("this is no image list", file=str(path), cure=cure)
    told = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    matches = [_LABELLED.fullmatch(line) for _, line in told]
    if not told:
        raise DataError("the image list names no image", file=str(path), cure="write one 'path label' a line")
    labelled = any(matches)
    items = []
    for (number, line), match in zip(told, matches, strict=True):
        if labelled and match is None:
            what = f"expected 'path label', found '{line[:80]}'"
            raise DataError(what, file=str(path), line=number, cure="give all images a label, or none")
        name, label = (match["name"], int(match["label"])) if match is not None else (line, 0)
        tried = [Path(name), path.parent / name]
        found = next((each for each in tried if each.is_file()), None)
        if found is None:
            cure = "write whole paths, or paths from the current folder or from that of the list"
            raise DataError(f"the image '{name}' does not exist", file=str(path), line=number, cure=cure)
        items.append((found.absolute(), label))
    return Images(tuple(items), labelled)


def split(items: Sequence[Item], share: float) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Items for TRAIN and for TEST, spread evenly so that a list in the order of classes gives some of each."""
    chosen = [int((number + 1) * share) > int(number * share) for number in range(len(items))]
    train = tuple(item for item, mine in zip(items, chosen, strict=True) if mine)
    return train, tuple(item for item, mine in zip(items, chosen, strict=True) if not mine)


def list_text(items: Sequence[Item]) -> str:
    """The items as an image list."""
    return "".join(f"{path} {label}\n" for path, label in items)
