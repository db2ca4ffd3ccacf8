"""Labels that a net computes, and indices of rows, are looked at before they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.weights import LayerWeights, write_caffemodel
from tests.numbers.nets import NET, Place
from tests.numbers.test_lies import npz

FEW = ("--iterations", "all")


def relabelled(here: Place, layers: str) -> None:
    """Let the scores read labels from blob 'own', which some layers make."""
    text = (here.folder / NET).read_text()
    head, conv1, tail = text.partition('layer {\n  name: "conv1"')
    (here.folder / NET).write_text(head + layers + conv1 + tail.replace('bottom: "label"', 'bottom: "own"'))


HALVES = """
layer { name: "half" type: "Power" bottom: "label" top: "half" power_param { shift: 0.5 } }
layer { name: "abs" type: "AbsVal" bottom: "half" top: "own" }
"""
BELOW = """
layer { name: "below" type: "Power" bottom: "label" top: "below" power_param { shift: -1 } }
layer { name: "joined" type: "Concat" bottom: "below" top: "own" concat_param { axis: 0 } }
"""
TWICE = 'layer { name: "twice" type: "Eltwise" bottom: "label" bottom: "label" top: "own" }\n'


@pytest.mark.parametrize(("layers", "said"), [(HALVES, "0.5"), (BELOW, "-1"), (TWICE, "18")])
def test_labels_that_are_computed(here: Place, layers: str, said: str) -> None:
    relabelled(here, layers)
    image = 1 if layers is TWICE else 0
    for outcome in (here.test(*npz(here), *FEW), here.quantize(*npz(here), *FEW)):
        assert outcome.status == 2
        assert outcome.message.count("\n") == 0
        expected = f"label {said} of image {image} of batch 0 in blob 'own', the net has 10 classes"
        assert expected in outcome.message


def test_computed_labels_of_workers(here: Place) -> None:
    relabelled(here, HALVES)
    outcome = here.test(*npz(here, data=np.zeros((110, 1, 16, 16)), label=np.zeros(110)), *FEW, "--workers", 2)
    assert "label 0.5 of image 0 of batch 0 in blob 'own'" in outcome.message


@pytest.mark.parametrize(
    "layers",
    [
        HALVES.replace("shift: 0.5", "scale: -1"),
        'layer { name: "teacher" type: "InnerProduct" bottom: "data" top: "teacher" inner_product_param '
        '{ num_output: 10 } }\nlayer { name: "own" type: "ArgMax" bottom: "teacher" top: "own" }\n',
    ],
    ids=["AbsVal", "ArgMax"],
)
def test_computed_labels_that_are_right(here: Place, layers: str) -> None:
    relabelled(here, layers)
    if "teacher" in layers:
        teacher = LayerWeights("teacher", "InnerProduct", (np.ones((10, 256), np.float32), np.ones(10, np.float32)))
        write_caffemodel(Path("teacher.caffemodel"), "teacher", [teacher])
        outcome = here.test(*npz(here), *FEW, "--weights", "net.caffemodel,teacher.caffemodel")
    else:
        outcome = here.test(*npz(here), *FEW)
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize(("filler", "said"), [("type: 'constant' value: 11", "11"), ("type: 'uniform' max: 9", "")])
def test_labels_that_are_made_up(here: Place, filler: str, said: str) -> None:
    shape = "shape { dim: 20 dim: 1 dim: 16 dim: 16 } shape { dim: 20 }"
    fillers = f"data_filler {{ type: 'gaussian' }} data_filler {{ {filler} }}"
    text = (here.folder / NET).read_text()
    made = (
        f"layer {{ name: 'd' type: 'DummyData' top: 'data' top: 'label' dummy_data_param {{ {shape} {fillers} }} }}\n"
    )
    (here.folder / NET).write_text(made + text[text.index('layer {\n  name: "conv1"') :])
    outcome = here.test()
    assert outcome.status == 2
    assert f"layer 'accuracy': label {said}" in outcome.message
    assert " of batch 0 in blob 'label', the net has 10 classes" in outcome.message


EMBED = """
layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 5 } shape { dim: 5 } } }
BETWEEN
layer { name: "rows" type: "Embed" bottom: "data" top: "rows" embed_param { input_dim: 8 num_output: 4 } }
layer { name: "accuracy" type: "Accuracy" bottom: "rows" bottom: "label" top: "accuracy" }
"""


@pytest.mark.parametrize("between", ["", 'layer { name: "abs" type: "AbsVal" bottom: "data" top: "data" }'])
@pytest.mark.parametrize("index", [8, -1, 1.5])
def test_indices(here: Place, index: float, between: str) -> None:
    index = abs(index) + 8 if between and index == -1 else index
    (here.folder / NET).write_text(EMBED.replace("BETWEEN", between))
    rows = LayerWeights("rows", "Embed", (np.eye(8, 4, dtype=np.float32), np.zeros(4, np.float32)))
    write_caffemodel(Path("net.caffemodel"), "rows", [rows])
    good, bad = (npz_of(here, name, [0, 7, 1, 2, 3, 0, last]) for name, last in (("good", 6), ("bad", index)))
    assert here.test(*good, *FEW).status == 0
    outcome = here.test(*bad, *FEW)
    assert outcome.status == 2
    said = f"layer 'rows': index {index:g} of image 1 of batch 1 in blob 'data', the layer has 8 rows"
    assert said in outcome.message
    assert "indices are whole numbers from 0 to 7" in outcome.message
    run = here.call("run", "--model", NET, "--weights", "net.caffemodel", "--outputs", "o.npz", *bad)
    assert run.status == 2
    assert f"index {index:g} of image 6 in blob 'data', the layer has 8 rows" in run.message


def npz_of(here: Place, name: str, indices: list[float]) -> tuple[str, str]:
    np.savez(here.folder / f"{name}.npz", data=np.float32(indices), label=np.zeros(len(indices), np.float32))
    return "--inputs", f"{name}.npz"
