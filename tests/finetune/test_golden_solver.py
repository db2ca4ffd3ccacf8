"""Six steps of training against those of Caffe itself."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.solver import read_solver
from ristretto.caffe.weights import read_weights
from ristretto.finetune.net import TorchNet
from ristretto.finetune.trainer import Trainer
from ristretto.pipeline.feed import open_feed
from ristretto.pipeline.score import loss_weights
from tests.finetune.needed import needs_torch
from tests.golden.shared import cases, needs_shared

SOLVERS = cases("golden/solver/*_solver.prototxt")


@needs_torch
@needs_shared
@pytest.mark.parametrize("path", SOLVERS, ids=lambda path: path.name.removesuffix("_solver.prototxt"))
def test_steps_are_those_of_the_original(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and weights; where gradients of two batches are added up the original's log has the second one's loss."""
    monkeypatch.chdir(path.parent)
    solver = read_solver(Path(path.name))
    net = build_net(read_prototxt(Path(solver.net)), solver.state)
    feed = open_feed(net, inputs=None, data_root=None, seed=0)
    blobs = fit_weights(net, infer_shapes(net, feed.shapes), read_weights([Path("start.caffemodel")]))
    losses = {net.finals[blob]: weight for blob, weight in loss_weights(net).items()}
    trainer = Trainer(TorchNet(net, blobs, losses), solver.rule, solver.rate)
    with np.load(path.name.replace("solver.prototxt", "after.npz")) as given:
        wanted = dict(given)
    batches, seen = feed.batches(), []
    for count in range(1, 7):
        step = trainer.step(islice(batches, solver.rule.iter_size))
        seen.append(step.outputs["loss"][0])
        if count in (1, 6):
            check_weights(trainer, {key: blob for key, blob in wanted.items() if key.startswith(f"iter{count}/")})
    np.testing.assert_allclose(seen, wanted["loss"], rtol=0, atol=1e-5)


def check_weights(trainer: Trainer, wanted: dict[str, np.ndarray]) -> None:
    """All blobs within 1e-6 of the largest weight, and no other ones."""
    layers = zip(trainer.net.net.layers, trainer.net.parameters.layers, strict=True)
    found = {f"{layer.name}/{place}": p.data for layer, used in layers for place, p in enumerate(used)}
    largest = max(np.abs(blob).max() for blob in wanted.values())
    assert found.keys() == {key.partition("/")[2] for key in wanted}
    for key, blob in wanted.items():
        np.testing.assert_allclose(found[key.partition("/")[2]], blob, rtol=0, atol=1e-6 * largest)
