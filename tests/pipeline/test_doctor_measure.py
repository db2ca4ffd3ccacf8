"""The doctor's quick score: mistakes of preparation on nets with real weights, and what it says would help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.data import open_data
from ristretto.data.datum import parse_datum
from ristretto.data.records import RecordSource
from ristretto.decide.confidence import binomial_tail
from ristretto.pipeline.doctor.measure import _surely_better
from ristretto.pipeline.doctor.prepared import Preparation, Preparer
from ristretto.report.findings import Diagnosis
from tests.data.sources import numbered, raw_datum, write_lmdb
from tests.databases import reading
from tests.golden.shared import SHARED, needs_shared
from tests.pipeline.ailing import LENET, changed, examined, found, rewritten, with_blob


def scored(folder: Path, text: str, *weights: Path, **options: Any) -> Diagnosis:
    return examined(folder, text, *weights, quick_score=True, **options)


def test_scale_forgotten(tmp_path: Path) -> None:
    diagnosis = scored(tmp_path, changed(("scale: 0.00390625", ""), count=2))
    (finding,) = found(diagnosis, "preparation", "warning")
    assert finding.cure == "set scale: 0.00390625"
    assert diagnosis.measured is not None
    trials = diagnosis.measured.trials
    assert max(trials[:-1], key=lambda trial: trial.score).change == "scale 0.00390625"
    assert not any(trial.sure for trial in trials[:-1])  # not on a hundred images
    assert trials[-1].sure
    assert f"score {trials[-1].score:.4g} (scale 0.00390625)" in finding.what
    assert "measured on the same 400 images" in finding.what
    measured = scored(tmp_path, changed(("scale: 0.00390625", ""), count=2), iterations=2).measured
    assert measured is not None
    assert not any(trial.sure for trial in measured.trials)  # so many images were asked for
    assert not diagnosis.of("error")


def test_scale_twice(tmp_path: Path) -> None:
    text = changed(("scale: 0.00390625", "scale: 0.0000152588"), count=2)
    (finding,) = found(scored(tmp_path, text), "preparation", "warning")
    assert finding.cure == "set scale: 0.00390625"


def test_mean_and_scale_wrong_at_once(tmp_path: Path) -> None:
    text = changed(("scale: 0.00390625", "mean_value: 250 scale: 0.00001"), count=2)
    (finding,) = found(scored(tmp_path, text), "preparation", "warning")
    assert "take mean_value or mean_file out of transform_param" in finding.cure
    assert "set scale" in finding.cure


def _first_class(blob: np.ndarray) -> None:
    blob[...] = 0
    if blob.ndim == 1:
        blob[3] = 1


def _huge(blob: np.ndarray) -> None:
    blob *= 3e38


def test_constant_and_no_better_than_guessing(tmp_path: Path) -> None:
    def broken(layer: object) -> object:
        for position in (0, 1):
            layer = with_blob("ip2", position, _first_class)(layer)  # type: ignore[arg-type]
        return layer

    weights = rewritten(tmp_path, broken)  # type: ignore[arg-type]
    diagnosis = scored(tmp_path, LENET.read_text(), weights)
    assert "answers class 3 to all 100 images" in found(diagnosis, "constant_output", "warning")[0].what
    (guess,) = found(diagnosis, "guessing", "warning")
    assert "no better than guessing (0.1)" in guess.what
    assert "none of the usual cures" in guess.cure
    assert not found(diagnosis, "preparation")


def test_not_finite(tmp_path: Path) -> None:
    weights = rewritten(tmp_path, with_blob("ip2", 0, _huge))
    (finding,) = found(scored(tmp_path, LENET.read_text(), weights), "not_finite", "error")
    assert "NaN or infinite" in finding.what


def test_images_are_drawn_from_the_whole_source(tmp_path: Path) -> None:
    """A source in the order of classes: its first images are all of one class."""
    source = LENET.parents[1] / "digits_data" / "test_lmdb"
    with reading(source) as transaction:
        items = sorted((parse_datum(value, None) for _, value in transaction.cursor()), key=lambda item: item[1])
    path = tmp_path / "sorted"
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number, (image, label) in enumerate(items):
            transaction.put(b"%08d" % number, raw_datum(np.asarray(image, np.uint8), int(label)))
    diagnosis = scored(tmp_path, changed(("digits_data/test_lmdb", str(path)), ("scale: 0.00390625", ""), count=2))
    assert not found(diagnosis, "constant_output")
    assert found(diagnosis, "preparation")


def test_iterations_and_no_labels(tmp_path: Path) -> None:
    measured = scored(tmp_path, LENET.read_text(), iterations=3).measured
    assert measured is not None
    assert measured.images == 150
    text = changed(('top: "label"\n', ""), count=2)
    text = text[: text.index('layer {\n  name: "accuracy"')]
    measured = scored(tmp_path, text).measured
    assert measured is not None
    assert (measured.images, measured.score, measured.chance) == (100, None, None)


@needs_shared
def test_channels_swapped_and_mean_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 quick was trained on RGB as its LMDB holds it."""
    monkeypatch.chdir(SHARED)
    folder = SHARED / "models" / "cifar10_quick"
    text = (folder / "train_test.prototxt").read_text()
    weights = folder / "cifar10_quick_iter_5000.caffemodel"
    swapped = tmp_path / "bgr"
    source = str(SHARED / "data" / "cifar10_test_lmdb")
    with reading(source) as transaction:
        items = [parse_datum(value, None) for _, (_, value) in zip(range(400), transaction.cursor(), strict=False)]
    write_lmdb(swapped, [raw_datum(np.ascontiguousarray(image[::-1]), int(label)) for image, label in items])
    wrong = text.replace("../shared/data/cifar10_test_lmdb", str(swapped))
    diagnosis = scored(tmp_path, wrong, weights, iterations=4)
    (finding,) = found(diagnosis, "preparation", "warning")
    assert "channels swapped" in finding.what
    assert "channels in the other order" in finding.cure
    mean = 'mean_file: "../shared/models/cifar10_quick/mean.binaryproto"'
    assert mean in text
    (finding,) = found(scored(tmp_path, text.replace(mean, ""), weights, iterations=4), "preparation", "warning")
    assert "mean_value: " in finding.cure


@needs_shared
def test_squeezenet_without_its_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED)
    folder = SHARED / "models" / "squeezenet_v1.0"
    text = (folder / "train_val.prototxt").read_text()
    for value in (104, 117, 123):
        text = text.replace(f"mean_value: {value}", "")
    text = text.replace("crop_size: 227", "crop_size: 227 scale: 0.017")
    diagnosis = scored(tmp_path, text, folder / "squeezenet_v1.0.caffemodel", iterations=1)
    (finding,) = found(diagnosis, "preparation", "warning")
    assert "measured on the same 50 images" in finding.what
    assert "set scale: 1" in finding.cure


def preparer(folder: Path, transform: str, channels: int = 3) -> Preparer:
    source = write_lmdb(folder / "lmdb", numbered(5, (channels, 2, 2)))
    text = (
        'layer { name: "d" type: "Data" top: "data" top: "label" '
        f'transform_param {{ {transform} }} data_param {{ source: "{source}" batch_size: 2 backend: LMDB }} }}'
    )
    opened = open_data(build_net(parse(text, "net")).layers[0], data_root=None, seed=0)
    assert isinstance(opened, RecordSource)
    return Preparer(opened, [[4, 1], [3]])


def test_preparations(tmp_path: Path) -> None:
    prepared = preparer(tmp_path, "mean_value: 1 mean_value: 2 mean_value: 3 scale: 2")

    def pixels(preparation: Preparation) -> list[list[float]]:
        return [row for batch in prepared.batches(preparation) for row in batch["data"][:, :, 0, 0].tolist()]

    assert pixels(Preparation()) == [[6, 4, 2], [0, -2, -4], [4, 2, 0]]
    # All channels are alike, so swapping them leaves the mean where it was.
    assert pixels(Preparation(swapped=True)) == pixels(Preparation())
    assert pixels(Preparation(mean="none", scale=1.0)) == [[4, 4, 4], [1, 1, 1], [3, 3, 3]]
    assert pixels(Preparation(mean="the images' own", scale=1.0))[0] == [1.5, 1.5, 1.5]
    labels = [batch["label"].tolist() for batch in prepared.batches(Preparation(swapped=True))]
    assert labels == [[4, 1], [3]]


def test_what_is_tried(tmp_path: Path) -> None:
    gray = preparer(tmp_path, "scale: 0.00390625", channels=1)
    assert all(not each.swapped and each.mean != "ImageNet's" for each in gray.combined())
    assert Preparation(scale=0.00390625) not in gray.singles()
    assert Preparation(mean="none") not in gray.singles()
    assert len(set(gray.combined())) == len(gray.combined()) > len(gray.singles())


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_binomial_tail(count: int, total: int, probability: float) -> None:
    tail = binomial_tail(count, total, probability)
    assert 0 <= tail <= 1
    assert binomial_tail(0, total, probability) == pytest.approx(1)
    if count <= total:
        assert tail >= binomial_tail(count + 1, total, probability)
    assert binomial_tail(total, total, probability) == pytest.approx(probability**total)


def test_sign_test() -> None:
    base = np.zeros(20, bool)
    better = np.arange(20) < 9
    assert _surely_better(better, base, 1)
    assert not _surely_better(base, better, 1)
    assert not _surely_better(better, base, 100)  # so many trials make one of them look good
    assert not _surely_better(base, base, 1)
