"""Numbers that lie are named: refused with one line, or told as a warning in log and report."""

from __future__ import annotations

import json

import lmdb
import numpy as np
import pytest
from numpy.typing import NDArray

from ristretto.caffe.blobs import blob_pieces
from tests.numbers.nets import DEPLOY, NET, Place

Array = NDArray[np.float32]


def put(value: float, place: int = 0):
    def change(blob: Array) -> None:
        blob.flat[place] = value

    return change


def fill(value: float):
    def change(blob: Array) -> None:
        blob[...] = value

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights(here: Place, value: float) -> None:
    here.weights("conv2", 1, put(value, 3))
    kind = "NaN" if np.isnan(value) else "infinity"
    said = f"net.caffemodel: layer 'conv2': {kind} in 1 of the 32 values of blob 1; did the training diverge?"
    for outcome in (here.quantize(), here.test()):
        assert outcome.status == 2
        assert outcome.message.startswith(f"ristretto: {said}")
    assert not (here.folder / "q.prototxt").exists()
    assert not (here.folder / "r.json").exists()
    shown = here.call("run", "--model", NET, "--weights", "net.caffemodel", "--outputs", "o.npz")
    assert shown.status == 0
    assert f"layer 'conv2': {kind} in 1 of the 32 values of blob 1" in shown.err
    looked = here.call("doctor", NET, "net.caffemodel", "--no_score")
    assert looked.status == 2
    assert f"{kind} in 1 of the 32 values of blob 1" in looked.out


def test_weights_of_training_and_export(here: Place) -> None:
    assert here.quantize().status == 0
    (here.folder / "s.prototxt").write_text('net: "train_val.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2')
    here.weights("ip1", 0, fill(np.nan))
    for words in (
        ("finetune", "--solver", "s.prototxt", "--weights", "net.caffemodel"),
        ("export", "--model", "q.prototxt", "--weights", "net.caffemodel", "--target", "hardware", "--output", "o"),
    ):
        outcome = here.call(*words)
        assert outcome.status == 2
        assert "layer 'ip1': NaN in" in outcome.message


def test_values_that_overflow_are_traced_to_a_layer(here: Place) -> None:
    here.weights("conv2", 0, fill(3e38))
    for outcome in (here.quantize(), here.test()):
        assert outcome.status == 2
        assert "layer 'conv2': makes infinity of numbers (image 0 of batch 0), so the score" in outcome.message
    assert not (here.folder / "q.prototxt").exists()


def test_values_that_overflow_in_calibration_alone(here: Place) -> None:
    here.edit(("scale: 0.00390625", "scale: 1e36"))
    text = (here.folder / NET).read_text()
    head, middle, tail = text.split("scale: 1e36")
    (here.folder / NET).write_text(f"{head}scale: 1e36{middle}scale: 0.00390625{tail}")
    outcome = here.quantize()
    assert outcome.status == 2
    assert "layer 'conv1': makes " in outcome.message
    assert "of batch 0, phase TRAIN): no format has a range for that" in outcome.message


def npz(here: Place, **arrays: object) -> tuple[str, str]:
    found = {"data": np.zeros((3, 1, 16, 16)), "label": np.array([0, 9, 1])} | arrays
    np.savez(here.folder / "x.npz", **found)
    return "--inputs", "x.npz"


@pytest.mark.parametrize("label", [10, -1, 2.5, 1e30])
def test_labels(here: Place, label: float) -> None:
    inputs = npz(here, label=np.array([0, 9, label]))
    for outcome in (here.test(*inputs, "--iterations", "all"), here.quantize(*inputs, "--iterations", "all")):
        assert outcome.status == 2
        said = f"label {np.float32(label):g} of image 2 of batch 0 in blob 'label', the net has 10 classes"
        assert said in outcome.message


MOVED = {
    "Reshape": ("top: 'own' reshape_param { shape { dim: -1 dim: 1 dim: 1 } }", [0, 9, 1], 11, 11),
    "Slice": ("top: 'other' top: 'own' slice_param { slice_point: 1 }", [[77, 0], [77, 9], [77, 1]], [77, 11], 11),
    "Power": ("top: 'own' power_param { shift: -1 }", [1, 10, 2], 0, -1),
}


@pytest.mark.parametrize("kind", MOVED)
def test_labels_that_come_through_another_layer(here: Place, kind: str) -> None:
    """Of the other half of a slice nothing is asked."""
    what, good, bad, said = MOVED[kind]
    text = (here.folder / NET).read_text()
    head, conv1, tail = text.partition('layer {\n  name: "conv1"')
    between = f"layer {{ name: 'between' type: '{kind}' bottom: 'label' {what} }}\n"
    (here.folder / NET).write_text(head + between + conv1 + tail.replace('bottom: "label"', 'bottom: "own"'))
    outcome = here.test(*npz(here, label=np.array(good)), "--iterations", "all")
    assert outcome.status == 0, outcome.err
    outcome = here.test(*npz(here, label=np.array([*good[:2], bad])), "--iterations", "all")
    assert outcome.status == 2
    assert f"label {said} of image 2 of batch 0 in blob 'own', the net has 10 classes" in outcome.message


def test_labels_of_workers(here: Place) -> None:
    environment = lmdb.open(str(here.folder / "digits_data" / "test_lmdb"))
    with environment.begin(write=True) as transaction:
        key = list(transaction.cursor().iternext(values=False))[123]
        record = bytes(transaction.get(key))
        at = record.rindex(b"\x28")  # the label, field 5
        transaction.put(key, record[: at + 1] + b"\x0b" + record[at + 2 :])
    environment.close()
    for more in ((), ("--workers", 2)):
        outcome = here.test("--iterations", "all", *more)
        assert "label 11 of image 23 of batch 2 in blob 'label'" in outcome.message


def test_arrays(here: Place) -> None:
    data = np.zeros((3, 1, 16, 16))
    data[1, 0, 4, 4] = np.nan
    outcome = here.test(*npz(here, data=data))
    assert outcome.message.startswith("ristretto: x.npz: image 1 of array 'data' holds NaN or infinity")
    assert here.test(*npz(here, data=np.zeros((0, 1, 16, 16)))).message.startswith(
        "ristretto: x.npz: array 'data' is empty"
    )
    words = "--model", DEPLOY, "--weights", "net.caffemodel", "--outputs", "o.npz"
    run = here.call("run", *words, *npz(here, data=data))
    assert run.status == 0
    assert "blob 'prob' holds NaN or infinity" in run.err


def test_mean_files(here: Place) -> None:
    mean = np.full((1, 1, 16, 16), 0.1, np.float32)
    mean.flat[:3] = np.inf
    (here.folder / "m.binaryproto").write_bytes(b"".join(map(bytes, blob_pieces(mean))))
    here.edit(("scale: 0.00390625", 'scale: 0.00390625 mean_file: "m.binaryproto"'))
    outcome = here.quantize()
    assert outcome.status == 2
    assert "3 of the 256 values of the mean file are NaN or infinite" in outcome.message


def test_hdf5(here: Place) -> None:
    h5py = pytest.importorskip("h5py")
    data = np.zeros((70, 1, 16, 16), np.float32)
    data[66] = np.inf
    with h5py.File(here.folder / "x.h5", "w") as file:
        file["data"], file["label"] = data, np.zeros(70, np.float32)
    (here.folder / "x.txt").write_text("x.h5\n")
    old = 'data_param {\n    source: "digits_data/test_lmdb"\n    batch_size: 50\n    backend: LMDB\n  }'
    here.edit((old, 'hdf5_data_param { source: "x.txt" batch_size: 50 }'))
    text = (here.folder / NET).read_text()
    at = text.index("hdf5_data_param")
    start = text.rindex("layer {", 0, at)
    block = text[start:at].replace('"Data"', '"HDF5Data"')
    block = block[: block.index("transform_param")] + block[block.index("}", block.index("transform_param")) + 1 :]
    (here.folder / NET).write_text(text[:start] + block + text[at:])
    outcome = here.test("--iterations", "all")
    assert outcome.status == 2
    assert "row 66 of dataset 'data' of 'x.h5' holds NaN or infinity" in outcome.message


def test_more_images_than_there_are_count_once_where_images_are_paired(here: Place) -> None:
    assert here.quantize("--iterations", 14).status == 0
    report = here.report()
    assert report["baseline"]["images"] == 700
    assert report["paired"]["images"] == 600
    assert any(text.startswith("700 images were asked for, the TEST source holds 600") for text in report["warnings"])


def test_constant_answers(here: Place) -> None:
    here.weights("ip2", 0, fill(0.0))
    outcome = here.quantize()
    assert outcome.status == 0
    warnings = here.report()["warnings"]
    assert "layer 'ip2': its weights are all zero, so its format means nothing" in warnings
    assert any(text.startswith("the float net answers class ") and "to all 100 images" in text for text in warnings)
    assert any(text.startswith("the quantized net answers class ") for text in warnings)
    assert all(text in outcome.err for text in warnings)
    assert here.test().status == 0
    assert any(text.startswith("the net answers class ") for text in here.report("t.json")["warnings"])


def test_guessing(here: Place) -> None:
    here.weights("ip2", 0, lambda blob: np.copyto(blob, np.roll(blob, 1, axis=0)))
    assert here.test().status == 0
    assert any("no better than guessing among 10 classes" in text for text in here.report("t.json")["warnings"])


def test_one_label(here: Place) -> None:
    inputs = npz(here, data=np.random.default_rng(0).random((8, 1, 16, 16)), label=np.full(8, 3))
    assert here.test(*inputs, "--iterations", "all").status == 0
    assert "all 8 images have the same label: the score says little" in here.report("t.json")["warnings"]


def test_a_dead_layer(here: Place) -> None:
    here.weights("conv2", 0, fill(0.0))
    assert here.quantize().status == 0
    warnings = here.report()["warnings"]
    assert "layer 'conv2': its weights are all zero, so its format means nothing" in warnings
    assert any(text.startswith("layer 'ip1': its output is ") or "class" in text for text in warnings)
    report = here.report()
    assert report["layers"]["conv2"]["params"]


def test_ignored_labels(here: Place) -> None:
    here.edit(
        ('bottom: "label"\n  top: "accuracy"', 'bottom: "label"\n  top: "accuracy" accuracy_param { ignore_label: 3 }')
    )
    inputs = npz(here, data=np.zeros((60, 1, 16, 16)), label=np.array([*range(10)] * 5 + [3] * 10))
    assert here.test(*inputs, "--iterations", "all").status == 0
    assert "no label counts in 1 of 2 batches: each adds 0 to the score" in here.report("t.json")["warnings"]


def test_scores_that_are_no_share(here: Place) -> None:
    (here.folder / "mine.py").write_text("def percent(batches):\n    return 98.0 + 0 * len(list(batches))\n")
    assert here.quantize("--score_script", "mine.py:percent", "--error_margin", 2).status == 0
    said = "the score 'percent' is 98, no share between 0 and 1: a margin of 2 points is 0.02 of it"
    assert said in here.report()["warnings"]
    (here.folder / "none.py").write_text("def nothing(batches):\n    return float('nan')\n")
    for outcome in (here.quantize("--score_script", "none.py:nothing"), here.test("--score_script", "none.py:nothing")):
        assert outcome.status == 2
        assert "the score 'nothing' is NaN, not a number" in outcome.message


def test_formats_that_end_far_below_the_values(here: Place) -> None:
    plan = {"layers": {"conv2": {"in": {"bw": 8, "fl": 14}}}}
    (here.folder / "p.json").write_text(json.dumps(plan))
    outcome = here.quantize("--overrides", "p.json")
    assert outcome.status == 0, outcome.err
    said = [text for text in here.report()["warnings"] if text.startswith("layer 'conv2': ")]
    assert said == [said[0]]
    assert "of its input lies beyond its format" in said[0]


def test_ranges_that_are_none(here: Place) -> None:
    assert here.quantize("--save_ranges", "a.json").status == 0
    text = (here.folder / "a.json").read_text()
    for word in ("NaN", "1e999", "Infinity", "null"):
        (here.folder / "b.json").write_text(text.replace('"min": ', f'"min": {word}, "was": ', 1))
        outcome = here.quantize("--ranges", "b.json")
        assert outcome.status == 2, word
        assert outcome.message.startswith("ristretto: b.json")
