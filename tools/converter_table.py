"""Both converters of ``ristretto convert`` over all nets of a folder, as a Markdown table.

    python tools/converter_table.py [FOLDER]    # FOLDER: ../shared/models; nets in its subfolders, weights beside them

An error is the largest difference to the golden outputs (golden_NAME_outputs.npz beside NAME.prototxt), or without
such to ``ristretto.run`` on random input, relative to the largest value of the output that differs most.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import ristretto
from ristretto.caffe.net import build_net, modernise, read_prototxt
from ristretto.caffe.rules import NetState
from ristretto.errors import RistrettoError
from ristretto.pipeline.convert import Converted, Converter, ConvertOptions, convert
from ristretto.pipeline.feed import fed_layers

Array = NDArray[np.float32]
Arrays = dict[str, Array]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("caffe2onnx", "onnx", "onnxruntime", "protobuf", "numpy")
CONVERTERS: tuple[Converter, ...] = ("native", "caffe2onnx")
RANDOM_BATCH = 2

_RULES = "rules of ONNX"


@dataclass(frozen=True)
class Net:
    """A prototxt and the weights file that goes with it."""

    prototxt: Path
    weights: Path

    @property
    def name(self) -> str:
        """Folder and file."""
        return f"{self.prototxt.parent.name}/{self.prototxt.name}"

    def golden(self) -> tuple[Arrays, Arrays] | None:
        """Inputs and outputs of the original, or None."""
        paths = [self.prototxt.with_name(f"golden_{self.prototxt.stem}_{kind}.npz") for kind in ("inputs", "outputs")]
        if not all(path.exists() for path in paths):
            return None
        inputs, outputs = (dict(np.load(path)) for path in paths)
        return inputs, outputs


def nets(folder: Path) -> list[Net]:
    """The nets below a folder; of several weights files the one whose name begins the net's."""
    found = []
    for prototxt in sorted(folder.rglob("*.prototxt")):
        weights = sorted(prototxt.parent.glob("*.caffemodel"))
        named = [path for path in weights if prototxt.stem.startswith(path.stem)]
        if weights and "solver" not in prototxt.stem:
            found.append(Net(prototxt, (named or weights)[0]))
    return found


def random_case(net: Net, made: Converted, folder: Path) -> tuple[Arrays, Arrays]:
    """Random inputs of the shapes that the native model asks for, and what ``run`` makes of them."""
    rng = np.random.default_rng(0)
    inputs = {}
    for name, dims in made.inputs.items():
        shape = [RANDOM_BATCH if dim == "N" else int(dim) for dim in dims]
        values = rng.integers(0, 10, shape) if len(shape) == 1 else rng.normal(0, 1, shape)
        inputs[name] = values.astype(np.float32)
    spec = build_net(modernise(read_prototxt(net.prototxt)), NetState("TEST"))
    arrays: dict[str, Any] = {top: np.zeros(RANDOM_BATCH) for layer in fed_layers(spec) for top in layer.tops}
    path = folder / "inputs.npz"
    np.savez(path, **(arrays | inputs))
    return inputs, ristretto.run(net.prototxt, net.weights, tuple(made.outputs), inputs=path)


def run_model(path: Path, inputs: Arrays, wanted: list[str]) -> Arrays:
    """The wanted outputs of a model, image by image where it takes one at a time.

    Names that a converter has changed are matched by what they begin with, or by being the only one.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = {value.name: value.shape for value in session.get_inputs()}
    made = [value.name for value in session.get_outputs()]
    feeds = {name: inputs[_match(name, list(inputs))] for name in taken}
    fetches = [_match(name, made) for name in wanted]
    own = next(iter(taken.values()), [None])[0]
    images = next(iter(feeds.values())).shape[0] if feeds else 1
    step = own if isinstance(own, int) and images % own == 0 else images
    slices = [slice(start, start + step) for start in range(0, images, step)]
    parts = [session.run(fetches, {name: array[part] for name, array in feeds.items()}) for part in slices]
    joined = [np.concatenate(arrays) if arrays[0].ndim else arrays[0] for arrays in zip(*parts, strict=True)]
    return dict(zip(wanted, joined, strict=True))


def _match(name: str, among: list[str]) -> str:
    fitting = [other for other in among if name in (other, f"{other}_input") or other.startswith(f"{name}_")]
    if not fitting and len(among) != 1:
        raise ValueError(f"no '{name}' among {', '.join(among)}")
    return (fitting or among)[0]


def largest_error(found: Arrays, expected: Arrays) -> float:
    """The largest difference relative to the largest expected value, over all outputs."""
    worst = 0.0
    for name in expected:
        ours, right = (_without_empty_rows(arrays[name]) for arrays in (found, expected))
        if ours.size != right.size:
            raise ValueError(f"{name} has shape {found[name].shape}, expected {right.shape}")
        scale = max(float(np.abs(right).max(initial=0)), 1e-30)
        worst = max(worst, float(np.abs(ours.reshape(right.shape) - right).max(initial=0)) / scale)
    return worst


def _without_empty_rows(array: Array) -> Array:
    """Detections (1, 1, rows, 7) without the rows of zeros that fill some golden ones up."""
    if array.ndim != 4 or array.shape[:2] != (1, 1) or array.shape[3] != 7:
        return array
    return array[:, :, np.abs(array[0, 0]).sum(axis=1) > 0]


def verdict(net: Net, converter: Converter, case: tuple[Arrays, Arrays] | None, folder: Path) -> tuple[str, Converted]:
    """One cell of the table, and what the converter says of its model.

    Raises:
        RistrettoError: it does not convert.
    """
    path = folder / f"{converter}.onnx"
    made = convert(ConvertOptions(net.prototxt, (net.weights,), path, converter=converter, data_root=ROOT / "models"))
    inputs, expected = case or random_case(net, made, folder)
    try:
        error = largest_error(run_model(path, inputs, list(expected)), expected)
        cell = f"{error:.1e}" if error < 1e-3 else f"**differs: {error:.1e}**"
    except Exception as fault:  # whatever another's model may do in onnxruntime
        cell = f"converts, does not run: {_short(_reason(str(fault), made))}"
    broken = any(_RULES in warning for warning in made.warnings)
    batch = next((dims[0] for dims in made.inputs.values() if dims), "")
    return f"{cell} ({'not clean, ' * broken}opset {made.opset}, batch {batch})", made


def _reason(fault: str, made: Converted) -> str:
    """Why a model does not run: the rule it breaks, or the node at which onnxruntime stopped and what it said there."""
    broken = [warning for warning in made.warnings if _RULES in warning]
    if broken:
        return broken[0].partition(_RULES)[2].lstrip(": ")
    node = re.search(r"while running (\S+) node", fault)
    said = fault.rpartition("Status Message: ")[2].strip()
    said = said.rpartition(") ")[2] if said.startswith("/onnxruntime_src") else said
    return f"{node[1]}: {said}" if node else said


def _short(text: str) -> str:
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= 90 else line[:87] + "..."


def row(net: Net) -> str:
    """One line of the table."""
    case = net.golden()
    measure = "golden" if case else "run"
    cells = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for converter in CONVERTERS:
            try:
                cell, made = verdict(net, converter, case, folder)
                if case is None:
                    case = random_case(net, made, folder)
            except RistrettoError as error:
                cell = "no: " + _short(error.what.removeprefix("caffe2onnx failed: "))
            cells.append(cell)
    return f"| {net.name} | {measure} | {cells[0]} | {cells[1]} |"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "models"
    found = nets(folder.resolve())
    os.chdir(folder.resolve().parent)  # where relative sources are looked for
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    print(f"{datetime.date.today().isoformat()}, ristretto {ristretto.__version__}, {versions}.\n")
    print("| net | held against | native | caffe2onnx |\n| --- | --- | --- | --- |")
    for net in found:
        print(row(net), flush=True)


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(4)
    main()
