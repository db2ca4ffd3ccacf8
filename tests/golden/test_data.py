"""Every batch of the original's data layers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.data import open_data
from tests.golden.shared import cases, needs_shared

pytestmark = needs_shared


@pytest.mark.parametrize("path", cases("golden/data/*.prototxt"), ids=lambda path: path.stem)
def test_batches_equal_the_originals(path: Path) -> None:
    layer = build_net(read_prototxt(path)).layers[0]
    source = open_data(layer, data_root=path.parent, seed=0)
    expected = np.load(path.with_suffix(".npz"))
    jpeg = path.stem.startswith("image_data")
    for number, batch in enumerate(islice(source.batches(), 3)):
        for top in source.tops:
            wanted = expected[f"batch{number}/{top}"]
            assert batch[top].shape == wanted.shape
            np.testing.assert_allclose(batch[top], wanted, rtol=0, atol=3 if jpeg and top == "data" else 1e-5)


@pytest.mark.parametrize("path", cases("golden/data/lmdb_*.prototxt"), ids=lambda path: path.stem)
def test_single_pass_holds_every_image_once(path: Path) -> None:
    layer = build_net(read_prototxt(path)).layers[0]
    source = open_data(layer, data_root=path.parent, seed=0)
    passed = np.concatenate([batch["label"] for batch in source.single_pass()])
    wrapped = np.concatenate([batch["label"] for batch in islice(source.batches(), 4)])
    assert source.images == len(passed) == 7
    np.testing.assert_array_equal(passed, wrapped[:7])
    np.testing.assert_array_equal(wrapped[7:], np.tile(passed, 3)[: len(wrapped) - 7])
