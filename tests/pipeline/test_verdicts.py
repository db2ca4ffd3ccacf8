"""Images judged one by one: their mean is the accuracy, and two nets are compared image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.pipeline.verdicts import Verdicts
from tests.cli.runner import MODELS

RESNET = MODELS / "digits_resnet"


def test_ties_count_against_the_net() -> None:
    verdicts = Verdicts("s", "l", 1)
    scores = np.float32([[1, 2, 0], [2, 2, 0], [0, 0, 0], [3, 1, 2]])
    verdicts.add({"s": scores, "l": np.float32([1, 1, 0, 0])})
    assert verdicts.right().tolist() == [True, False, False, True]
    second = Verdicts("s", "l", 2)
    second.add({"s": scores, "l": np.float32([1, 1, 0, 2]).reshape(4, 1, 1)})
    assert second.right().tolist() == [True, True, False, True]


@pytest.mark.parametrize("weights_bw", [8, 3])
def test_a_report_pairs_the_images_of_both_nets(tmp_path: Path, weights_bw: int) -> None:
    report = ristretto.quantize(
        RESNET / "train_val.prototxt",
        RESNET / "digits_resnet.caffemodel",
        iterations=None,
        data_root=MODELS,
        bw_conv_params=weights_bw,
        bw_fc_params=weights_bw,
        bw_activations=8,
    )
    assert report.paired is not None
    assert report.paired.images == 600
    for scored in (report.baseline, report.combined):
        assert scored.right is not None
        assert scored.right.mean() == pytest.approx(scored.score, abs=1e-6)
    assert report.paired.drop == pytest.approx(report.baseline.score - report.combined.score, abs=1e-6)
    if weights_bw == 3:
        assert report.paired.lost > report.paired.won
