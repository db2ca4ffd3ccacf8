"""--level and --stage: which layers of a net there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.runner import ristretto

Capture = pytest.CaptureFixture[str]

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "twice" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } include { stage: "double" } }
layer { name: "shift" type: "Power" bottom: "x" top: "y" power_param { shift: 7 } exclude { stage: "double" } }
layer { name: "deep" type: "Power" bottom: "y" top: "z" power_param { scale: -1 } include { min_level: 2 } }
layer { name: "both" type: "Power" bottom: "y" top: "w" include { stage: "double" stage: "late" } }
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    np.savez(tmp_path / "in.npz", x=np.float32([[1, 2, 3]]))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "blobs"),
    [
        ((), {"y": [8, 9, 10]}),
        (("--stage", "double"), {"y": [2, 4, 6]}),
        (("-stage=late,double",), {"w": [2, 4, 6]}),
        (("--level", "2"), {"z": [-8, -9, -10]}),
        (("-level=3", "-stage=double"), {"z": [-2, -4, -6]}),
    ],
)
def test_run(capsys: Capture, net: Path, flags: tuple[str, ...], blobs: dict[str, list[float]]) -> None:
    outcome = ristretto(
        capsys, "run", "--model", net / "net.prototxt", "--inputs", net / "in.npz", "--outputs", net / "o.npz", *flags
    )
    assert outcome.status == 0, outcome.err
    saved = np.load(net / "o.npz")
    assert {name: saved[name][0].tolist() for name in saved.files} == blobs


def test_inspect_and_convert(capsys: Capture, net: Path) -> None:
    model = ("--model", net / "net.prototxt", "--stage", "double")
    assert "twice" in ristretto(capsys, "inspect", *model).out
    outcome = ristretto(capsys, "convert", *model, "--inputs", net / "in.npz", "--output", net / "net.onnx")
    assert outcome.status == 0, outcome.err
    assert "output y: " in outcome.out
