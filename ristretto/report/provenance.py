"""What a report says of how it came about: enough to run the job again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a job read.

    Attributes:
        role: what it is: "model", "weights", "mean file", "source" ...
        path: as the job found it, relative to the folder that it ran in.
        bytes: its size.
        sha256: of its content, or of samples of it.
        sampled: whether it is of samples: blocks spread evenly over a file that is too large to be read for this.
        folder: of the images that a list names: what stands before each name; None for a file.
    """

    role: str
    path: str
    bytes: int
    sha256: str
    sampled: bool = False
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a report came about. Nothing in it tells one run from another of the same job.

    Attributes:
        command: "quantize", "test" or "finetune".
        flags: every option by its name in Python, as JSON values, but places of results and what only makes it quick.
        outputs: the options that said where results go: some of them decide what is done.
        versions: of the tool and of what it computes with.
        files: what was read.
        images: of the data that the net was scored on, and that ranges were measured on; None where it is not known.
    """

    command: str
    flags: Mapping[str, Any]
    outputs: tuple[str, ...]
    versions: Mapping[str, str]
    files: tuple[InputFile, ...]
    images: Mapping[str, int | None] = field(default_factory=dict)


def provenance_to_json(provenance: Provenance) -> dict[str, Any]:
    """It as JSON values (schema: docs/report.md)."""
    return {
        "command": provenance.command,
        "flags": dict(provenance.flags),
        "outputs": list(provenance.outputs),
        "versions": dict(provenance.versions),
        "files": [
            {
                "role": file.role,
                "path": file.path,
                "bytes": file.bytes,
                ("sha256_of_samples" if file.sampled else "sha256"): file.sha256,
                **({} if file.folder is None else {"folder": file.folder}),
            }
            for file in provenance.files
        ],
        "images": dict(provenance.images),
    }
