"""What a job was made from: its options, the files it read, the versions it ran with."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from ristretto.caffe.confined import Confined
from ristretto.data import Noted
from ristretto.data.image_list import split_line
from ristretto.inputs import note_inputs, open_input, read_input
from ristretto.pipeline.options import OUTPUTS
from ristretto.pipeline.plugins import GROUP
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
    "opencv": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
        "opencv",
    ),
}
"""What figures depend on, and the packages that bring it."""

_TRAINING_PACKAGES = {"torch": ("torch",)}

_KERNELS = (
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx_vnni",
    "amx_int8", "amx_tile", "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
"""What a processor may be able to do that decides which kernels run."""

_INPUTS = ("model", "weights", "inputs", "overrides", "ranges", "solver", "snapshot")
"""Options that name files to read."""

_CODE = ("plugins", "score_script")
"""Options that name Python code, by a path or as a module, the latter maybe with a function after a colon."""

_SPEED = ("threads", "workers", "scheduler", "cache_mb", "cache_disk_mb")
"""Options that change no figure: a run on a cluster can be repeated without it."""

NEVER_TOLD = (*OUTPUTS, *_SPEED, "details", "also", "resume", "untrusted", "output", "snapshot_prefix")
"""Options that are no wish about the result, or that name places of results."""


def provenance_of(
    command: str,
    options: Any,
    extra: Mapping[str, Any],
    noted: Iterable[Noted],
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
    asked = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in NEVER_TOLD}
    asked |= {**extra, **({"also": also} if also else {})}
    given = [Noted(name, path) for name in _INPUTS for path in _paths(getattr(options, name, None))]
    named = {name: getattr(options, name, None) or extra.get(name) for name in _CODE}
    given += [Noted(name, path) for name, value in named.items() for path in _code_files(value)]
    files: dict[tuple[str, bool], InputFile] = {}
    for each in [*given, *(Noted("also", path) for path in also), *noted]:
        for file in _files_of(each.path):
            key = str(file), each.images is not None
            if key not in files:
                files[key] = (
                    fingerprint(each.role, file) if each.images is None else images_fingerprint(file, each.images)
                )
    outputs = tuple(name for name in OUTPUTS if getattr(options, name, None) is not None)
    flags = {name: to_json(value) for name, value in asked.items()}
    return Provenance(command, flags, outputs, versions(command), tuple(files.values()), images)


def fingerprint(role: str, path: Path) -> InputFile:
    """The size and the digest of a file; of a large data source that of samples."""
    digest = sha256()
    with open_input(path) as file:
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


def images_fingerprint(listing: Path, folder: str, confined: Confined | None = None) -> InputFile:
    """The size and the digest of all images that a list names: of names and sizes, and of the content as for a source.

    Args:
        listing: the list.
        folder: what stands before each name.
        confined: where images must lie to be looked at.
    """
    text = read_input(listing).decode("utf-8", "surrogateescape")
    names = dict.fromkeys(split_line(line)[0] for line in text.split("\n") if line.strip())
    named = [Path(folder + name) for name in names]
    paths = [path for path in named if (confined is None or confined.holds(path)) and path.is_file()]
    note_inputs(lambda: paths)
    sizes = [path.stat().st_size for path in paths]
    digest = sha256()
    for path, size in zip(paths, sizes, strict=True):
        digest.update(f"{path.name} {size}\n".encode("utf-8", "surrogateescape"))
    sampled = sum(sizes) > WHOLE_UP_TO
    looked_at = range(len(paths)) if not sampled else sorted({len(paths) * n // SAMPLES for n in range(SAMPLES)})
    for number in looked_at:
        digest.update(read_input(paths[number]))
    return InputFile("images", str(listing), sum(sizes), digest.hexdigest(), sampled, folder)


Stamps = dict[str, tuple[int, ...]]
"""By path what changes when somebody writes to a file, or puts another in its place."""


def stamps(provenance: Provenance) -> Stamps:
    """The stamps of all files that a job read; one that is gone has none."""
    found: Stamps = {}
    for file in provenance.files:
        try:
            stat = Path(file.path).stat()
        except OSError:
            continue
        found[file.path] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def changed_since(provenance: Provenance, before: Stamps) -> tuple[str, ...]:
    """The paths of files that are no longer what a job read, by their stamps and then by their content."""
    now, found = stamps(provenance), []
    for file in provenance.files:
        if file.folder is not None or before.get(file.path) == now.get(file.path):
            continue
        try:
            same = fingerprint(file.role, Path(file.path)) == file
        except OSError:
            same = False
        if not same:
            found.append(file.path)
    return tuple(found)


def versions(command: str) -> dict[str, str]:
    """The versions of the tool, of what a command's figures depend on, of plug-ins; and what the processor can do."""
    found = {
        "ristretto": VERSION,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": " ".join(_cpu_features()),
    }
    for name, packages in (_PACKAGES | (_TRAINING_PACKAGES if command == "finetune" else {})).items():
        for package in packages:
            try:
                found[name] = version(package)
                break
            except PackageNotFoundError:
                continue
    for point in sorted(entry_points(group=GROUP), key=str):
        found[f"plug-in {point.name}"] = point.dist.version if point.dist is not None else ""
    return found


def _cpu_features() -> Iterator[str]:
    """What this processor can do of what decides which kernels run, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        yield from filter(None, [platform.processor()])
        return
    words = next((line for line in lines if line.lower().startswith(("flags", "features"))), "").split()
    yield from (name for name in _KERNELS if name in words)


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


def _paths(value: Any) -> list[Path]:
    """The paths of an option."""
    return [] if value is None else list(map(Path, value if isinstance(value, tuple) else (value,)))


def _code_files(value: Any) -> Iterator[Path]:
    """The files of plug-ins or of a script, which are imported by now."""
    for name in value if isinstance(value, tuple) else filter(None, (value,)):
        path, colon, _ = name.partition(".py:")
        if colon or name.endswith(".py"):
            yield Path(f"{path}.py" if colon else name)
            continue
        file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
        if file:
            yield Path(file)


def _files_of(path: Path) -> list[Path]:
    """A file, or those of a database's folder that hold its records."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    lmdb = path / "data.mdb"
    return [lmdb] if lmdb.is_file() else sorted({*path.glob("*.ldb"), *path.glob("*.sst"), *path.glob("*.log")})
