"""The Verilog of docs/examples/verilog computes layers of the bundled nets as their exported vectors say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.runner import ristretto
from tests.export.nets import MODELS, quantized
from tests.export.reader import Folder

VERILOG = Path(__file__).resolve().parents[2] / "docs" / "examples" / "verilog"

needs_iverilog = pytest.mark.skipif(
    shutil.which("iverilog") is None or shutil.which("vvp") is None,
    reason="iverilog is not installed (Debian: apt-get install iverilog)",
)


@pytest.fixture
def folder(capsys: pytest.CaptureFixture[str], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    net, *flags = request.param
    model, weights = quantized(net)
    given = ("--model", model, "--weights", weights, "--data-root", MODELS, "--formats", "hex")
    outcome = ristretto(capsys, "export", *given, "--target", "hardware", "--output", tmp_path / "hw", *flags)
    assert outcome.status == 0, outcome.err
    return tmp_path / "hw"


def simulate(folder: Path, layer: str) -> str:
    """What the test bench prints in the end."""
    place = folder.parent
    header = subprocess.run(
        [sys.executable, VERILOG / "layer.py", folder, layer], check=True, capture_output=True, text=True
    )
    (place / "layer.vh").write_text(header.stdout)
    sources = [VERILOG / name for name in ("bench.v", "fc.v", "conv.v", "requantize.v")]
    built = subprocess.run(
        ["iverilog", "-g2005", "-s", "bench", "-I", place, "-o", place / "bench.vvp", *sources],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (built.returncode, built.stderr) == (0, "")
    run = subprocess.run(["vvp", "-n", place / "bench.vvp"], check=True, capture_output=True, text=True, timeout=120)
    assert "WARNING" not in run.stdout + run.stderr, run.stdout
    return run.stdout.splitlines()[-1]


@needs_iverilog
@pytest.mark.parametrize(
    ("folder", "layer", "outputs"),
    [
        (("digits_lenet", "--images", 3), "ip1", 192),
        (("digits_lenet", "--images", 2, "--rounding", "half_away"), "conv2", 1024),
        (("digits_lenet", "--images", 2, "--rounding", "half_up"), "ip2", 20),
        (("digits_resnet", "--images", 1), "conv1", 4096),  # padded
        (("digits_resnet", "--images", 1), "res3a_branch1", 2048),  # with a stride
    ],
    indirect=["folder"],
)
def test_layer_passes(folder: Path, layer: str, outputs: int) -> None:
    assert simulate(folder, layer) == f"PASS: {outputs} outputs"


@needs_iverilog
@pytest.mark.parametrize("folder", [("digits_lenet", "--images", 2)], indirect=True)
@pytest.mark.parametrize(("layer", "outputs"), [("ip1", 128), ("conv2", 1024)])
def test_one_wrong_weight_fails(folder: Path, layer: str, outputs: int) -> None:
    read = Folder(folder)
    entry = next(entry for entry in read.manifest["layers"] if entry["name"] == layer)
    # A weight that matters: of an output that no end of its format hides, at the greatest input of its window.
    made = read.vector(entry["outputs"][0])
    free = np.argwhere((made > entry["min"]) & (made < entry["max"]))[0]
    window = read.vector(entry["inputs"][0])[free[0]]
    if layer == "conv2":  # 3 by 3, neither padding nor stride
        window = window[:, free[2] : free[2] + 3, free[3] : free[3] + 3]
    number = free[1] * window.size + int(window.argmax())
    weights = folder / entry["weights"]["files"]["hex"]["file"]
    head, *words = weights.read_text().splitlines()
    words[number] = f"{int(words[number], 16) ^ 0x40:02x}"
    weights.write_text("\n".join([head, *words, ""]))
    verdict = re.fullmatch(r"FAIL: (\d+) of (\d+) outputs differ, (\d+) expected", simulate(folder, layer))
    assert verdict is not None
    wrong, seen, expected = map(int, verdict.groups())
    assert 1 <= wrong <= made[:, free[1]].size
    assert seen == expected == outputs
