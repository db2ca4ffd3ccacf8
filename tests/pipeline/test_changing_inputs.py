"""Files that somebody writes to while a job runs, and nets that are fed nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import Event, PassStarted
from tests.pipeline.test_resume import LENET, options

HALF = 0.5


def halved(path: Path) -> None:
    """Put weights half as large in the place of a file, as a training that goes on would."""
    layers = [
        LayerWeights(layer.name, layer.type, tuple(blob * HALF for blob in layer.blobs))
        for layer in read_weights([path]).layers
    ]
    other = path.with_suffix(".new")
    write_caffemodel(other, "halved", layers)
    other.replace(path)


@pytest.mark.parametrize("name", ["net.caffemodel", "net.prototxt"])
def test_a_file_that_changes_is_told_and_not_mixed_in(tmp_path: Path, name: str) -> None:
    weights, model = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    shutil.copy(LENET / "digits_lenet.caffemodel", weights)
    shutil.copy(LENET / "train_val.prototxt", model)
    before = quantize(options(tmp_path / "before", model=model, weights=(weights,)))
    assert before.comparison is not None
    path = tmp_path / name

    def change(event: Event) -> None:
        if not isinstance(event, PassStarted):
            return
        if path == weights:
            halved(path)
        else:
            path.write_text(path.read_text() + "# another one\n")

    report = quantize(options(tmp_path / "after", model=model, weights=(weights,)), change)
    told = [warning for warning in report.warnings if "was changed while the job ran" in warning]
    assert told == [f"{path} was changed while the job ran: all figures are of what it was before"]
    assert report.comparison is None
    assert (report.plan, report.baseline.score, report.combined.score) == (
        before.plan,
        before.baseline.score,
        before.combined.score,
    )


def test_a_file_that_was_touched_alone_is_the_same(tmp_path: Path) -> None:
    model = tmp_path / "net.prototxt"
    shutil.copy(LENET / "train_val.prototxt", model)
    report = quantize(options(tmp_path / "out", model=model), lambda event: model.touch())
    assert not [warning for warning in report.warnings if "was changed" in warning]


DUMMY = """layer {
  name: "d" type: "DummyData" top: "data" top: "label"
  dummy_data_param {
    shape { dim: 20 dim: 1 dim: 16 dim: 16 } shape { dim: 20 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 3 }
  }
}
"""


def test_a_net_that_is_fed_nothing_has_a_report(tmp_path: Path) -> None:
    text = (LENET / "train_val.prototxt").read_text()
    model = tmp_path / "net.prototxt"
    model.write_text(DUMMY + text[text.index('layer {\n  name: "conv1"') :])
    quantize(options(tmp_path / "out", model=model))
    data = json.loads((tmp_path / "out" / "report").read_text())
    assert data["layers"]["conv1"]["sites"]["in"]["elements"] > 0
