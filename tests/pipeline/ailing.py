"""Nets that ail from one thing each, made of the digits LeNet that comes with the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.pipeline.doctor import DoctorOptions, diagnose
from ristretto.report.findings import Diagnosis, Finding

MODELS = Path(__file__).resolve().parents[2] / "models"
LENET = MODELS / "digits_lenet" / "train_val.prototxt"
WEIGHTS = MODELS / "digits_lenet" / "digits_lenet.caffemodel"
RESNET = MODELS / "digits_resnet" / "train_val.prototxt"
RESNET_WEIGHTS = MODELS / "digits_resnet" / "digits_resnet.caffemodel"

ALL = -1


def changed(*edits: tuple[str, str], count: int = 1, model: Path = LENET) -> str:
    """A prototxt with words replaced; each has to be there."""
    text = model.read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, count)
    return text


def examined(folder: Path, text: str, weights: Path | None = WEIGHTS, **options: Any) -> Diagnosis:
    """What the doctor finds in a net; without the quick score, if nothing else is said."""
    path = folder / "net.prototxt"
    path.write_text(text)
    given = {"data_root": MODELS, "quick_score": False, **options}
    return diagnose(DoctorOptions(path, () if weights is None else (weights,), **given))


def found(diagnosis: Diagnosis, check: str, severity: str = "") -> list[Finding]:
    """The findings of a check."""
    return [
        finding
        for finding in diagnosis.findings
        if finding.check == check and (not severity or finding.severity == severity)
    ]


def line_of(text: str, piece: str) -> int:
    """The line in which a piece of a text first stands."""
    assert piece in text, piece
    return text[: text.index(piece)].count("\n") + 1


def rewritten(folder: Path, change: Callable[[LayerWeights], LayerWeights | None], source: Path = WEIGHTS) -> Path:
    """A weights file whose layers were changed, or left out."""
    layers = [new for layer in read_weights([source]).layers if (new := change(layer)) is not None]
    path = folder / "changed.caffemodel"
    write_caffemodel(path, "net", layers)
    return path


def with_blob(name: str, position: int, change: Callable[[np.ndarray], None]) -> Callable[[LayerWeights], LayerWeights]:
    """A change of one blob of one layer."""

    def apply(layer: LayerWeights) -> LayerWeights:
        if layer.name != name:
            return layer
        blobs = [np.array(blob) for blob in layer.blobs]
        change(blobs[position])
        return replace(layer, blobs=tuple(blobs))

    return apply
