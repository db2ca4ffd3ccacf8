"""What reports say of layers, against the weights file, the formats and the net run by other means."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.weights import read_weights
from ristretto.formats import FixedPoint
from tests.cli.runner import MODELS
from tests.report.reports import CHANNELS, LADDER, MIXED, POWERS, report_of

WEIGHTS = MODELS / "digits_lenet" / "digits_lenet.caffemodel"


def bits_of(entry: dict[str, int] | None) -> int:
    if entry is None:
        return 32
    return entry["bw"] if "bw" in entry else {(-8, -1): 4}[entry["exp_min"], entry["exp_max"]]


@pytest.mark.parametrize("flags", [LADDER, POWERS, CHANNELS])
def test_sizes_follow_from_the_weights_file_and_the_formats(flags: tuple[str, ...]) -> None:
    data, weights = report_of("lenet", *flags), read_weights((WEIGHTS,))
    total = 0
    for name, layer in data["layers"].items():
        counts = [blob.size for blob in weights.get(name) or ()]
        size = layer["size"]
        assert [size["weights"], size["biases"]] == counts
        assert size["bytes_float"] == 4 * sum(counts)
        bits = counts[0] * bits_of(layer["params"]) + counts[1] * bits_of(layer.get("bias"))
        assert size["bytes"] == math.ceil(bits / 8)
        total += size["bytes"]
    assert data["size"] == {
        "bytes_float": 4 * sum(blob.size for each in weights.layers for blob in each.blobs),
        "bytes": total,
    }


def test_a_folded_net_is_held_against_the_one_that_was_given() -> None:
    data = report_of("resnet", *MIXED)
    weights = read_weights((MODELS / "digits_resnet" / "digits_resnet.caffemodel",))
    assert data["size"]["bytes_float"] == 4 * sum(blob.size for each in weights.layers for blob in each.blobs)
    assert data["size"]["bytes"] == sum(layer["size"]["bytes"] for layer in data["layers"].values())


def test_saturated_weights_and_their_noise_are_those_of_the_file() -> None:
    data, weights = report_of("lenet", *LADDER), read_weights((WEIGHTS,))
    for name, layer in data["layers"].items():
        site, fmt = layer["sites"]["params"], FixedPoint(**layer["params"])
        blob = np.asarray(weights.get(name)[0], np.float64)  # type: ignore[index]
        low, high = -(2 ** (fmt.bw - 1)) / 2**fmt.fl, (2 ** (fmt.bw - 1) - 1) / 2**fmt.fl
        assert site["limits"] == [low, high]
        assert site["step"] == 2.0**-fmt.fl
        assert site["saturated"] == np.count_nonzero((blob < low) | (blob > high))
        rounded = np.clip(np.rint(blob * 2**fmt.fl) / 2**fmt.fl, low, high)
        assert site["sqnr_db"] == pytest.approx(
            10 * math.log10((blob**2).sum() / ((blob - rounded) ** 2).sum()), abs=1e-3
        )
        counts, _ = np.histogram(blob, 64, (float(blob.min()), float(blob.max())))
        assert np.abs(np.cumsum(counts) - np.cumsum(site["histogram"]["counts"])).max() <= 2  # an edge or so


def test_channels_saturate_by_their_own_limits() -> None:
    data, weights = (
        report_of("resnet", *CHANNELS),
        read_weights((MODELS / "digits_resnet" / "digits_resnet.caffemodel",)),
    )
    for name, layer in data["layers"].items():
        if "params" not in layer:
            continue
        fls = np.array(layer["params"]["fls"])[:, None]
        codes = weights.get(name)[0].reshape(len(fls), -1) * 2.0**fls  # type: ignore[index]
        assert layer["sites"]["params"]["saturated"] == np.count_nonzero((codes < -8) | (codes > 7))
        assert layer["sites"]["params"]["step"] is None


def test_values_are_those_of_16_images_and_saturate_beyond_the_limits() -> None:
    data = report_of("lenet", *LADDER)
    assert data["histogram_images"] == 16
    found = 0
    for layer in data["layers"].values():
        for role in ("in", "out"):
            site = layer["sites"][role]
            spread, (low, high) = site["histogram"], site["limits"]
            assert sum(spread["counts"]) == site["elements"]
            assert site["elements"] % 16 == 0
            edges = np.linspace(spread["min"], spread["max"], len(spread["counts"]) + 1)
            counts = np.array(spread["counts"])
            above, below = edges[:-1] > high, edges[1:] < low
            least = counts[above].sum() + (0 if site.get("rectified") else counts[below].sum())
            straddling = counts[~above & (edges[1:] > high)].sum() + counts[~below & (edges[:-1] < low)].sum()
            assert least <= site["saturated"] <= least + straddling
            found += site["saturated"]
    assert found > 0


def test_what_a_relu_takes_is_no_error() -> None:
    data = report_of("lenet", *LADDER)
    out = data["layers"]["conv1"]["sites"]["out"]
    assert data["layers"]["conv1"]["out"]["signed"] is False
    assert out["rectified"] is True
    assert out["histogram"]["min"] < 0
    assert out["saturated"] < 0.01 * out["elements"]
    # The next layer's input is this, rectified and pooled, in the same format: it keeps about as much of it.
    assert abs(out["sqnr_db"] - data["layers"]["conv2"]["sites"]["in"]["sqnr_db"]) < 6


def test_operations_are_those_of_one_image() -> None:
    data = report_of("lenet", *LADDER)
    shapes = {"ip1": (64, 128), "ip2": (10, 64)}
    for name, (outputs, inputs) in shapes.items():
        assert data["layers"][name]["macs"] == outputs * inputs


def test_nothing_is_looked_at_without_need(tmp_path: Path) -> None:
    import ristretto

    folder = MODELS / "digits_lenet"
    report = ristretto.quantize(
        folder / "train_val.prototxt", WEIGHTS, data_root=MODELS, iterations=1, ladder=(8,), error_margin=50
    )
    assert report.details is None
    page = tmp_path / "page.html"
    ristretto.write_page(report, page)
    assert 'id="table"' in page.read_text()
    assert 'id="details"' not in page.read_text()
