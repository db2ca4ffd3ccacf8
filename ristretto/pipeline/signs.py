"""Signs that a net is not what its user means, or that its scores say nothing."""

from __future__ import annotations

import math

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.shapes import FED_TYPES
from ristretto.decide.search import Ladder
from ristretto.pipeline.job import Job
from ristretto.pipeline.misspelt import unknown_fields
from ristretto.report.model import Scored

_WITHOUT_WEIGHTS = frozenset({"ReLU", "Dropout", "Pooling", "Accuracy", "SoftmaxWithLoss", *FED_TYPES})


def suspicious_scores(job: Job, baseline: Scored, ladders: dict[str, Ladder], combined: Scored) -> list[str]:
    """Signs that the scores say nothing: a loss, a score that never moves, NaN."""
    warnings = []
    maker = job.net.producer(job.net.finals[job.blob]) if job.scorer is None else None
    if maker is not None and is_loss(maker.type):
        warnings.append(
            f"the score '{job.blob}' is a loss: a smaller one is better, the search takes a larger one for better; "
            "name an accuracy with --score"
        )
    scores = [baseline.score, combined.score]
    scores += [trial.score for ladder in ladders.values() for trial in ladder.trials]
    if not all(map(math.isfinite, scores)):
        warnings.append(f"the score '{job.blob}' was not a finite number in at least one pass")
    elif len(scores) > 2 and len(set(scores)) == 1:
        warnings.append(
            f"all {len(scores)} scores are {scores[0]:g}: does '{job.blob}' depend on the net, and are labels right?"
        )
    return warnings


def wrapped_around(job: Job, baseline: Scored) -> list[str]:
    """A warning if more images were scored than the source holds."""
    held = job.feed.images
    if held is None or baseline.images <= held:
        return []
    return [f"{baseline.images} images were asked for, the TEST source holds {held}: some were scored more than once"]


def duplicate_names(net: NetSpec) -> list[str]:
    """A warning for each name that several layers with parameters have: they get the same weights, as in Caffe."""
    first: dict[str, int] = {}
    warnings = []
    for layer in net.layers:
        if layer.type in _WITHOUT_WEIGHTS:
            continue
        if layer.name in first:
            lines = f"lines {first[layer.name]} and {layer.view.line}"
            warnings.append(
                f"two layers are named '{layer.name}' ({lines}): weights are found by name, so both get the same"
            )
        first.setdefault(layer.name, layer.view.line)
    return warnings


def ignored_fields(net: NetSpec) -> list[str]:
    """A warning for each field that no schema knows: it has no effect here, and may be a misspelling."""
    return list(unknown_fields(layer.view for layer in net.layers))
