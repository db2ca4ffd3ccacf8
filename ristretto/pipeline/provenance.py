"""What a job was made from: its options, the files it read, the versions it ran with."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ristretto.pipeline.options import OUTPUTS
from ristretto.report.provenance import InputFile, Provenance
from ristretto.version import VERSION

WHOLE_UP_TO = 64 << 20
"""Bytes of a data source up to which all of it is read for its fingerprint."""

SAMPLES, SAMPLE = 256, 64 << 10
"""How many blocks are read of a larger one, and the bytes of each."""

_PACKAGES = {
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "opencv": ("opencv-python-headless", "opencv-python"),
}
"""What figures depend on, and the packages that bring it."""

_INPUTS = ("model", "weights", "inputs", "overrides", "ranges", "plugins")
"""Options that name files to read; of plug-ins those that are files."""

_SPEED = ("threads", "workers", "scheduler", "cache_mb", "cache_disk_mb")
"""Options that change no figure: a run on a cluster can be repeated without it."""

_NEVER = (*OUTPUTS, *_SPEED, "details", "also", "resume")
"""Options that are no wish about the result, or that name places of results."""


def provenance_of(
    command: str,
    options: Any,
    extra: Mapping[str, Any],
    noted: Iterable[tuple[str, Path]],
    images: Mapping[str, int | None],
) -> Provenance:
    """What a job was made from.

    Args:
        command: the job.
        options: a dataclass of what was asked for.
        extra: what was asked for beside it.
        noted: files that were found on the way, each with what it is.
        images: see ``Provenance``.
    """
    also = tuple(source for source, _ in getattr(options, "also", ()))
    asked = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in _NEVER}
    asked |= {**extra, **({"also": also} if also else {})}
    given = [(name, Path(path)) for name in _INPUTS for path in _paths(getattr(options, name, None))]
    files: dict[str, InputFile] = {}
    for role, path in [*given, *(("also", path) for path in also), *noted]:
        for file in _files_of(path):
            if str(file) not in files:
                files[str(file)] = fingerprint(role, file)
    outputs = tuple(name for name in OUTPUTS if getattr(options, name, None) is not None)
    flags = {name: to_json(value) for name, value in asked.items()}
    return Provenance(command, flags, outputs, versions(), tuple(files.values()), images)


def fingerprint(role: str, path: Path) -> InputFile:
    """The size and the digest of a file; of a large data source that of samples."""
    digest = sha256()
    with path.open("rb") as file:
        size = path.stat().st_size
        sampled = size > WHOLE_UP_TO and role not in _INPUTS
        if sampled:
            for number in range(SAMPLES):
                file.seek((size - SAMPLE) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
        else:
            while block := file.read(1 << 20):
                digest.update(block)
    return InputFile(role, str(path), size, digest.hexdigest(), sampled)


def versions() -> dict[str, str]:
    """The versions of the tool and of what figures depend on."""
    found = {"ristretto": VERSION, "python": platform.python_version(), "machine": platform.machine()}
    for name, packages in _PACKAGES.items():
        for package in packages:
            try:
                found[name] = version(package)
                break
            except PackageNotFoundError:
                continue
    return found


def to_json(value: Any) -> Any:
    """The value of an option as JSON says it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(item) for name, item in asdict(value).items()}
    return value


def _paths(value: Any) -> list[str]:
    """The paths of an option; a plug-in may be a module's name instead."""
    several = value if isinstance(value, tuple) else () if value is None else (value,)
    return [str(item) for item in several if isinstance(item, Path) or Path(item).suffix == ".py"]


def _files_of(path: Path) -> list[Path]:
    """A file, or those of a database's folder that hold its records."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    lmdb = path / "data.mdb"
    return [lmdb] if lmdb.is_file() else sorted({*path.glob("*.ldb"), *path.glob("*.sst")})
