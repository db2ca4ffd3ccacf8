"""Single layers against what Caffe itself computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import read_weights
from ristretto.graph.build import Simulation, build
from ristretto.numerics.arithmetic import Arithmetic
from tests.layers.harness import SHARED, assert_close, needs_shared, run_model

LAYERS = SHARED / "golden" / "layers"
MODELS = SHARED / "models"
BY_OPENCV = (
    "face_rfb320/RFB-320",
    "deep_landmark/2_LE1_deploy",
    "deep_landmark/3_N2_deploy",
    "ssd_mininet_lpr",
)
DYNAMIC = frozenset({"filter"})
"""Cases whose top has a size that depends on the data."""


def compare(
    prototxt: Path,
    caffemodel: Path,
    folder: Path,
    prefix: str,
    tolerance: float,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> None:
    """Run a prototxt on PREFIXinputs.npz in a folder and compare with PREFIXoutputs.npz, which are float32."""
    with np.load(folder / f"{prefix}inputs.npz") as given, np.load(folder / f"{prefix}outputs.npz") as wanted:
        inputs, outputs = dict(given), dict(wanted)
    net = build_net(read_prototxt(prototxt))
    shapes = infer_shapes(net, {blob: array.shape for blob, array in inputs.items()})
    learned = any(layer.blobs for layer in shapes.layers)
    blobs = fit_weights(net, shapes, read_weights([caffemodel]) if learned else None)
    values = [net.finals[blob] for blob in outputs]
    simulation = Simulation(arithmetic=arithmetic)
    tops = run_model(build(net, shapes, blobs, outputs=values, simulation=simulation), inputs)
    dtype = np.float64 if arithmetic is Arithmetic.FLOAT64 else np.float32
    for value, top, expected in zip(values, tops, outputs.values(), strict=True):
        if "detection_out" in outputs:
            # OpenCV fills the rows up to keep_top_k with zeros; Caffe makes as many rows as there are boxes.
            assert not expected[:, :, top.shape[2] :].any()
            expected = expected[:, :, : top.shape[2]]
        elif folder.name not in DYNAMIC:
            assert shapes.values[value] == expected.shape
        assert_close(top, expected, tolerance, dtype)


def _layer_cases() -> list[str]:
    names = sorted(path.name for path in LAYERS.iterdir()) if LAYERS.is_dir() else []
    return [name for name in names if not name.startswith("q_")]


def _model_cases() -> list[str]:
    found = sorted(MODELS.glob("*/golden_*_inputs.npz"))
    return [f"{path.parent.name}/{path.name.removeprefix('golden_').removesuffix('_inputs.npz')}" for path in found]


ARITHMETICS = pytest.mark.parametrize("arithmetic", [Arithmetic.FLOAT32, Arithmetic.FLOAT64], ids=lambda a: a.value)


@needs_shared
@ARITHMETICS
@pytest.mark.parametrize("name", _layer_cases())
def test_layer_gives_what_caffe_gives(name: str, arithmetic: Arithmetic) -> None:
    folder = LAYERS / name
    compare(folder / "net.prototxt", folder / "net.caffemodel", folder, "", 2e-6, arithmetic)


@needs_shared
@ARITHMETICS
@pytest.mark.parametrize("name", _model_cases())
def test_net_gives_what_caffe_gives(name: str, arithmetic: Arithmetic) -> None:
    folder, stem = MODELS / name.split("/")[0], name.split("/")[1]
    weights = sorted(folder.glob("*.caffemodel"))
    own = [path for path in weights if stem.startswith(path.stem)] or weights
    tolerance = 1e-3 if name.startswith(BY_OPENCV) else 1e-5
    compare(folder / f"{stem}.prototxt", own[0], folder, f"golden_{stem}_", tolerance, arithmetic)
