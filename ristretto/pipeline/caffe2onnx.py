"""The package caffe2onnx as a second opinion, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import onnx
import onnx.version_converter

from ristretto.atomic import scratch_folder
from ristretto.errors import RistrettoError, UsageError
from ristretto.graph.nodes import OPSET
from ristretto.interpreter import python_command

INSTALL = "pip install --no-deps caffe2onnx"
"""How to get it: what it requires by name is an onnx of 2019, and it runs with today's."""

_WRITTEN_OPSET = 11

_SCRIPT = """
import sys
import numpy
for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
    if not hasattr(numpy, name):
        setattr(numpy, name, kind)
import onnx
from caffe2onnx.src.caffe2onnx import Caffe2Onnx
from caffe2onnx.src.load_save_model import loadcaffemodel
from caffe2onnx.src.utils import freeze
prototxt, caffemodel, output = sys.argv[1:]
graph, params = loadcaffemodel(prototxt, caffemodel)
model = Caffe2Onnx(graph, params, graph.name or "net").createOnnxModel()
freeze(model)
onnx.save_model(model, output)
"""
"""What ``python -m caffe2onnx.convert --frozen True`` does, with the numpy names it still uses and no error hidden."""


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("caffe2onnx") is not None


def convert_with_caffe2onnx(model: Path, weights: tuple[Path, ...]) -> onnx.ModelProto:
    """The model that caffe2onnx makes of a net, its weights no inputs and else as it is.

    Raises:
        UsageError: it is not installed, or the weights are not in one file.
        RistrettoError: it failed.
    """
    if not is_installed():
        raise UsageError("the converter caffe2onnx is not installed", cure=f"run: {INSTALL}")
    if len(weights) != 1:
        raise UsageError(f"caffe2onnx takes one weights file, {len(weights)} are given", cure="name one with --weights")
    for path in (model, *weights):
        if not path.is_file():
            raise UsageError("cannot read: there is no such file", file=str(path))
    with scratch_folder() as folder:
        output = folder / "net.onnx"
        environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        done = subprocess.run(
            [*python_command(_SCRIPT), str(model), str(weights[0]), str(output)],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode != 0 or not output.is_file():
            said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
            raise RistrettoError(f"caffe2onnx failed: {said[-1].strip()}", file=str(model))
        return _brought_up(onnx.load(output))


def _brought_up(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in today's operators.

    caffe2onnx writes the operators of onnx 1.6, which it asks for, and leaves the number of their version to the onnx
    that is installed. A model with operators that ONNX never had stays in that version.
    """
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", _WRITTEN_OPSET))
    model.ir_version = 8
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError):
        return model
