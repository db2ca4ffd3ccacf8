"""What the best of our formats cost on real nets, all images; the whole table is tools/accuracy.py's."""

from __future__ import annotations

import pytest

from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from tests.golden.shared import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.slow]

MODELS = SHARED / "models"
QUICK = ("cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000")
RESNET = ("cifar10_resnet20/train_test", "cifar10_resnet20/resnet20")


@pytest.fixture(autouse=True)
def _in_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED)


def drop(net: tuple[str, str], weights_bw: int, **more: object) -> float:
    """Points lost at 8-bit activations."""
    report = quantize(
        QuantizeOptions(
            MODELS / f"{net[0]}.prototxt",
            (MODELS / f"{net[1]}.caffemodel",),
            iterations=None,
            bw_conv_params=weights_bw,
            bw_fc_params=weights_bw,
            bw_activations=8,
            **more,  # type: ignore[arg-type]
        )
    )
    assert report.baseline.images == 10_000
    return 100 * (report.baseline.score - report.combined.score)


@pytest.mark.parametrize("net", [QUICK, RESNET], ids=["quick", "resnet20-in-place"])
def test_8_bits_with_the_weights_as_they_are(net: tuple[str, str]) -> None:
    """The original falls to chance on the second at 16-bit activations."""
    assert drop(net, 8) <= 0.3


def test_4_bit_weights_with_compensated_rounding() -> None:
    better = drop(RESNET, 4, fold=True, weight_rounding="compensated")
    assert better <= 1.0
    assert drop(RESNET, 4, fold=True) > better + 3
