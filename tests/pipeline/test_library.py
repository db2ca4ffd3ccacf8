"""The library says nothing, returns values, and raises what the program prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto.numerics.formats import DynamicFixedPoint
from tests.cli.runner import MODELS

LENET = MODELS / "digits_lenet"


def test_quantize_returns_frozen_values_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "q.prototxt")
    report = ristretto.quantize(
        str(LENET / "train_val.prototxt"),
        str(LENET / "digits_lenet.caffemodel"),
        model_quantized=output,
        iterations=2,
        data_root=str(MODELS),
    )
    assert capfd.readouterr() == ("", "")
    assert report.baseline.images == 100
    assert Path(output).exists()
    formats = report.plan.layers["conv1"].params
    assert isinstance(formats, DynamicFixedPoint)
    assert formats.bw == report.ladders["conv"].chosen
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.margin_met = True  # type: ignore[misc]


def test_evaluate_and_run() -> None:
    model, weights = LENET / "train_val.prototxt", LENET / "digits_lenet.caffemodel"
    result = ristretto.evaluate(model, weights, None, data_root=MODELS)
    assert result.scored.images == 600
    assert result.scored.score == pytest.approx(0.985)
    blobs = ristretto.run(model, [weights], ["ip2", "label"], data_root=MODELS)
    right = (blobs["ip2"].argmax(axis=1) == blobs["label"]).mean()
    first = ristretto.evaluate(model, weights, 1, data_root=MODELS).scored.score
    assert right == pytest.approx(first)


def test_partial_last_batch_counts_by_images(tmp_path: Path) -> None:
    """600 images in batches of 50 and of 64 have the same mean."""
    text = (LENET / "train_val.prototxt").read_text()
    uneven = tmp_path / "uneven.prototxt"
    uneven.write_text(text.replace("batch_size: 50", "batch_size: 64"))
    scores = [
        ristretto.evaluate(model, LENET / "digits_lenet.caffemodel", None, data_root=MODELS).scored
        for model in (LENET / "train_val.prototxt", uneven)
    ]
    assert [scored.batches for scored in scores] == [12, 10]
    assert scores[0].score == pytest.approx(scores[1].score, abs=1e-6)
    np.testing.assert_allclose(scores[0].outputs["loss"], scores[1].outputs["loss"], rtol=1e-5)


def test_errors_are_one_class() -> None:
    with pytest.raises(ristretto.RistrettoError, match="cannot read the prototxt"):
        ristretto.quantize("gone.prototxt", "gone.caffemodel")


def test_choices_are_words_as_on_the_command_line(tmp_path: Path) -> None:
    net = LENET / "train_val.prototxt", LENET / "digits_lenet.caffemodel"
    assert ristretto.run(*net, data_root=MODELS, arithmetic="float64")["loss"].dtype == np.float64
    with pytest.raises(
        ristretto.RistrettoError, match=r"^arithmetic cannot be 'double'; use float32, float64, integer$"
    ):
        ristretto.run(*net, data_root=MODELS, arithmetic="double")
    (tmp_path / "q.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 } } }\n'
        'layer { name: "r" type: "ReLU" bottom: "x" top: "y" quantization_param { bw_layer_out: 8 fl_layer_out: 0 } }\n'
    )
    np.savez(tmp_path / "x.npz", x=np.float32([0.5, 1.5, 2.5, 3.5, 3.4]))
    for rounding, wanted in {
        "half_even": [0, 2, 2, 4, 3],
        "half_up": [1, 2, 3, 4, 3],
        "truncate": [0, 1, 2, 3, 3],
    }.items():
        top = ristretto.run(tmp_path / "q.prototxt", inputs=tmp_path / "x.npz", rounding=rounding)["y"]
        np.testing.assert_array_equal(top, wanted)


@pytest.mark.parametrize(
    ("option", "value", "least", "greatest"),
    [("calibration_batches", 0, 1, 100_000_000), ("bw_conv_params", 33, 1, 32), ("percentile", 10.0, 50, 100)],
)
def test_numbers_lie_between_those_of_the_flags(option: str, value: object, least: int, greatest: int) -> None:
    with pytest.raises(
        ristretto.RistrettoError, match=rf"^{option} cannot be {value}; use a number from {least} to {greatest}$"
    ):
        ristretto.quantize("net.prototxt", "net.caffemodel", **{option: value})  # type: ignore[arg-type]
