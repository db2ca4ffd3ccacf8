"""What ``ristretto export`` can write, and which function writes it; modules are imported when they are asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ristretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ristretto.export.job import Exported, ExportJob


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of export.

    Attributes:
        where: module:function; the function takes an ``ExportJob`` and returns an ``Exported``.
        writes: whether --output names a folder or a file.
        summary: for the help.
        options: what it takes beside the options of every target: names of ``ExportOptions``.
        images: how many images it works with where nobody says.
    """

    where: str
    writes: Literal["folder", "file"]
    summary: str
    options: frozenset[str] = field(default_factory=frozenset)
    images: int = 1

    def load(self) -> Callable[[ExportJob], Exported]:
        """The function."""
        module, _, name = self.where.partition(":")
        function: Callable[[ExportJob], Exported] = getattr(importlib.import_module(module), name)
        return function


SPECIAL = frozenset({"images", "formats", "layers", "force", "accumulator", "blobs", "batch"})
"""The options that not every target takes."""

TARGETS: dict[str, Target] = {
    "hardware": Target(
        "ristretto.export.hardware:export_hardware",
        "folder",
        "integers, shifts, shapes and test vectors for a hardware generator",
        frozenset({"images", "formats", "layers", "force", "accumulator"}),
    ),
    "onnx-int8": Target(
        "ristretto.export.onnx_int8:export_int8",
        "folder",
        "an ONNX model that onnxruntime runs on integer kernels, measured against the float model",
        frozenset({"blobs", "batch", "images", "force"}),
        images=100,
    ),
    "qcdq": Target(
        "ristretto.export.onnx_int8:export_qcdq",
        "folder",
        "an ONNX model with QuantizeLinear, Clip, DequantizeLinear",
        frozenset({"blobs", "batch", "images", "force"}),
        images=100,
    ),
    "qonnx": Target(
        "ristretto.export.onnx_qonnx:export_qonnx",
        "folder",
        "an ONNX model with QONNX's Quant nodes",
        frozenset({"blobs", "batch", "force"}),
    ),
    "caffe": Target(
        "ristretto.export.caffe_files:export_caffe",
        "folder",
        "a prototxt and weights rounded to their formats, for Caffe itself",
        frozenset({"force"}),
    ),
    "caffe-integer": Target(
        "ristretto.export.caffe_files:export_integer",
        "folder",
        "a prototxt and weights as integers, for Caffe itself",
        frozenset({"force"}),
    ),
}


def target_of(name: str) -> Target:
    """The target of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(f"there is no export target '{name}'", cure=f"the targets are {', '.join(TARGETS)}")
    return TARGETS[name]
