"""The doctor on nets that ail from one thing each: the finding, its place and its cure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.weights import LayerWeights
from tests.data.sources import png, raw_datum, write_lmdb, write_mean
from tests.golden.shared import SHARED, needs_shared
from tests.pipeline.ailing import (
    LENET,
    MODELS,
    RESNET,
    RESNET_WEIGHTS,
    WEIGHTS,
    changed,
    examined,
    found,
    line_of,
    rewritten,
    with_blob,
)

TEST_DATA = 'scale: 0.00390625\n  }\n  data_param {\n    source: "digits_data/test_lmdb"'
SOFTMAX = 'layer {\n  name: "p"\n  type: "Softmax"\n  bottom: "ip2"\n  top: "p"\n'
STRANGE = 'layer { name: "x" type: "Xyzzy" bottom: "ip1" top: "x" }\n'
ACCURACY = """layer {
  name: "accuracy"
  type: "Accuracy"
  bottom: "ip2"
  bottom: "label"
  top: "accuracy"
"""


@dataclass(frozen=True)
class Case:
    """An edit of the digits LeNet, and the finding that it must lead to.

    Attributes:
        id: the test's name.
        edits: words and what stands in their place.
        finding: severity and check.
        what, cure: parts of the texts.
        at: a piece of the text on whose line the finding is; "" for none.
        layer: the layer that is named.
    """

    id: str
    edits: tuple[tuple[str, str], ...]
    finding: tuple[str, str]
    what: str
    cure: str
    at: str = ""
    layer: str = ""


CASES = [
    Case(
        "brace",
        (('bottom: "ip2"\n  bottom: "label"\n  top: "loss"\n}', 'bottom: "ip2"'),),
        ("error", "syntax"),
        "never closed",
        "add the matching",
        'layer {\n  name: "loss"',
    ),
    Case(
        "misspelt",
        (("kernel_size: 5\n    stride", "kernel_size: 5\n    strid"),),
        ("warning", "unknown_field"),
        "field 'strid' is not known",
        "is 'stride' meant?",
        "strid: 1",
        "conv1",
    ),
    Case(
        "value",
        (('bias_filler {\n      type: "constant"', "bias_filler {\n      type: constant"),),
        ("warning", "value"),
        "type needs a string",
        "put constant into quotes",
        "type: constant",
        "conv1",
    ),
    Case(
        "value that is used",
        (("num_output: 16", "num_output: many"),),
        ("error", "shape"),
        "needs a whole number",
        "write a whole number",
        "num_output: many",
        "conv1",
    ),
    Case(
        "old dialect",
        (
            (
                "convolution_param {\n    num_output: 16",
                "quantize_param { bw_params: 8 }\n  convolution_param {\n    num_output: 16",
            ),
        ),
        ("warning", "dialect"),
        "another fork's word",
        "ristretto apply",
        "quantize_param",
        "conv1",
    ),
    Case(
        "quantized",
        (('type: "Convolution"', 'type: "ConvolutionRistretto"'),),
        ("error", "quantized"),
        "quantized already, 1 layers have number formats: 'conv1'",
        "the float net",
        'layer {\n  name: "conv1"',
    ),
    Case(
        "bottom",
        (('bottom: "pool1"', 'bottom: "pool_1"'),),
        ("error", "wiring"),
        "unknown bottom blob 'pool_1'",
        "check the name",
        'bottom: "pool_1"',
        "conv2",
    ),
    Case(
        "top twice",
        (('top: "pool2"', 'top: "pool1"'),),
        ("error", "wiring"),
        "made by more than one layer",
        "another name",
        'top: "pool1"\n  pooling_param {\n    pool: MAX\n    kernel_size: 2',
        "pool2",
    ),
    Case(
        "type",
        (('type: "InnerProduct"', 'type: "InerProduct"'),),
        ("error", "unknown_type"),
        "unknown layer type 'InerProduct'",
        "'InnerProduct'",
        '"InerProduct"',
        "ip1",
    ),
    Case(
        "type that does not count",
        ((ACCURACY, STRANGE + ACCURACY),),
        ("note", "unknown_type"),
        "unknown layer type 'Xyzzy'",
        "left out",
        '"Xyzzy"',
        "x",
    ),
    Case("kernel", (("kernel_size: 5", "kernel_size: 50"),), ("error", "shape"), "", "", "", "conv1"),
    Case(
        "source",
        (("digits_data/test_lmdb", "digits_data/tset_lmdb"),),
        ("error", "source"),
        "'digits_data/tset_lmdb' does not exist",
        "correct the path",
        "",
        "digits",
    ),
    Case(
        "crop",
        ((TEST_DATA, TEST_DATA.replace("scale: 0.00390625", "crop_size: 28")),),
        ("error", "transform"),
        "crop_size 28 is larger",
        "make crop_size smaller",
        "",
        "digits",
    ),
    Case(
        "mean file",
        (("scale: 0.00390625", 'mean_file: "gone.binaryproto"'),),
        ("error", "source"),
        "the mean file 'gone.binaryproto' does not exist",
        "correct the path",
        "",
        "digits",
    ),
    Case(
        "mean of three",
        (("scale: 0.00390625", "mean_value: 1 mean_value: 2 mean_value: 3"),),
        ("error", "transform"),
        "3 mean_values",
        "one per channel",
        "",
        "digits",
    ),
    Case(
        "mean after scale",
        (("scale: 0.00390625", "mean_value: 0.5 scale: 0.00390625"),),
        ("warning", "transform"),
        "the mean comes before the scale",
        "in units of pixels",
        "",
        "digits",
    ),
    Case(
        "scale",
        (("scale: 0.00390625", "scale: 255"),),
        ("warning", "transform"),
        "scale is 255",
        "0.00390625",
        "",
        "digits",
    ),
    Case(
        "scales differ",
        (("scale: 0.00390625", "scale: 1"),),
        ("warning", "transform"),
        "scale (1, 0.00390625) differs",
        "prepare both alike",
        "",
        "digits",
    ),
    Case(
        "labels",
        (("num_output: 10", "num_output: 8"),),
        ("error", "label"),
        "the net has 8 classes",
        "labels count from 0 to 7",
        "",
        "digits",
    ),
    Case(
        "batch of one",
        (("batch_size: 50", "batch_size: 1"),),
        ("note", "batch_size"),
        "batch_size is 1",
        "50 or so",
        "",
        "digits",
    ),
    Case(
        "loss first",
        (('top: "accuracy"', 'top: "right"'),),
        ("warning", "score"),
        "the score is the loss 'loss'",
        "--score right",
        'layer {\n  name: "loss"',
        "loss",
    ),
    Case(
        "no accuracy",
        ((ACCURACY, SOFTMAX), ('top: "loss"', 'top: "x"')),
        ("note", "score"),
        "no Accuracy layer decides",
        "add an Accuracy layer",
        "",
        "p",
    ),
    Case(
        "no TRAIN data",
        (("phase: TRAIN", "phase: TEST stage: 'never'"),),
        ("error", "wiring"),
        "unknown bottom blob 'data'",
        "",
        'bottom: "data"',
        "conv1",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_one_thing_is_wrong(case: Case, tmp_path: Path) -> None:
    text = changed(*case.edits)
    diagnosis = examined(tmp_path, text)
    severity, check = case.finding
    findings = [finding for finding in found(diagnosis, check, severity) if case.what in finding.what]
    assert findings, diagnosis.findings
    finding = findings[0]
    assert finding.file == str(tmp_path / "net.prototxt")
    assert case.cure in finding.cure
    assert finding.layer == case.layer
    if case.at:
        assert finding.line == line_of(text, case.at)
    if severity != "error":
        assert not diagnosis.of("error")


def test_all_faults_are_told(tmp_path: Path) -> None:
    text = changed(
        ('bottom: "pool1"', 'bottom: "pool_1"'),
        ("digits_data/train_lmdb", "gone_lmdb"),
        ('type: "Accuracy"', 'type: "Acuracy"'),
        ("kernel_size: 5", "kernel_size: five"),
    )
    diagnosis = examined(tmp_path, text, rewritten(tmp_path, lambda layer: None if layer.name == "ip1" else layer))
    checks = {finding.check for finding in diagnosis.of("error")}
    assert checks == {"wiring", "source", "unknown_type", "shape", "weights"}
    layers = {finding.layer for finding in diagnosis.of("error")}
    assert layers == {"conv2", "digits", "accuracy", "conv1", "ip1"}


def test_what_stands_in_many_layers_is_told_once(tmp_path: Path) -> None:
    text = changed(('type: "ReLU"', 'type: "RelU7" quantize_param { bw_params: 8 }'), count=-1)
    diagnosis = examined(tmp_path, text)
    (kind,) = diagnosis.of("error")
    assert kind.what == "unknown layer type 'RelU7' (3 layers, this is the first)"
    assert kind.line == line_of(text, "RelU7")
    (field,) = found(diagnosis, "dialect", "warning")
    assert "(3 times, this is the first)" in field.what


def test_a_fault_of_both_phases_is_told_once(tmp_path: Path) -> None:
    diagnosis = examined(tmp_path, changed(('bottom: "pool1"', 'bottom: "pool_1"')))
    assert [finding.layer for finding in diagnosis.of("error")] == ["conv2"]


@pytest.mark.parametrize(("model", "weights"), [(LENET, WEIGHTS), (RESNET, RESNET_WEIGHTS)], ids=["lenet", "resnet"])
def test_the_bundled_nets_are_healthy(tmp_path: Path, model: Path, weights: Path) -> None:
    diagnosis = examined(tmp_path, model.read_text(), weights, quick_score=True)
    assert not diagnosis.of("error") + diagnosis.of("warning")
    assert diagnosis.measured is not None
    assert diagnosis.measured.score is not None
    assert diagnosis.measured.score > 0.95
    assert found(diagnosis, "in_place", "note")


def test_deploy_net(tmp_path: Path) -> None:
    text = (MODELS / "digits_lenet" / "deploy.prototxt").read_text()
    (finding,) = examined(tmp_path, text).of("error")
    assert (finding.check, finding.layer) == ("no_data", "data")
    assert "ristretto init" in finding.cure
    assert "--inputs" in finding.cure
    arrays = tmp_path / "data.npz"
    np.savez(arrays, data=np.zeros((3, 1, 16, 16), np.float32))
    assert not examined(tmp_path, text, inputs=arrays).of("error")


def test_solver_and_old_forms(tmp_path: Path) -> None:
    (finding,) = examined(tmp_path, 'net: "x.prototxt"\nbase_lr: 0.1\n').of("error")
    assert (finding.check, finding.what) == ("solver", "this is a solver, not a net")
    old = (
        'input: "data" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4\n'
        'layers { name: "r" type: RELU bottom: "data" top: "r" }\n'
        'layers { name: "c" type: CONVOLUTION bottom: "r" top: "c" '
        "convolution_param { num_output: 1 kernel_size: 1 } }\n"
    )
    diagnosis = examined(tmp_path, old, None)
    (note,) = found(diagnosis, "old_form", "note")
    assert "upgraded on the fly" in note.what
    assert note.line == 2
    assert {finding.check for finding in diagnosis.of("error")} == {"no_data"}


def test_score_of_top_5_and_of_a_side_branch(tmp_path: Path) -> None:
    second = ACCURACY.replace('"accuracy"', '"z"') + "}\n" + ACCURACY
    top5 = changed((ACCURACY, second + "  accuracy_param { top_k: 5 }\n"))
    (finding,) = found(examined(tmp_path, top5), "score")
    assert "top-5 accuracy 'accuracy'" in finding.what
    assert "--score z" in finding.cure
    side = changed((ACCURACY, ACCURACY + "}\n" + ACCURACY.replace('"accuracy"', '"main"')))
    (finding,) = found(examined(tmp_path, side), "score")
    assert "'main'" in finding.what
    assert "--score main" in finding.cure
    assert not found(examined(tmp_path, side, score="main"), "score")
    (error,) = found(examined(tmp_path, side, score="nothing"), "score", "error")
    assert "accuracy, loss, main" in error.cure


def test_weights_of_another_net(tmp_path: Path) -> None:
    error, other = examined(tmp_path, LENET.read_text(), RESNET_WEIGHTS).of("error")
    assert "3 of the net's 4 layers with weights are not in the file: 'conv2', 'ip1', 'ip2'" in error.what
    assert "another net" in error.cure
    assert other.layer == "conv1"  # both nets have one, of other shapes
    assert error.file == str(RESNET_WEIGHTS)


def test_renamed_layer(tmp_path: Path) -> None:
    text = changed(('name: "conv2"', 'name: "second"'))
    diagnosis = examined(tmp_path, text)
    (error,) = diagnosis.of("error")
    assert (error.layer, error.line) == ("second", line_of(text, 'layer {\n  name: "second"'))
    assert "the file has 'conv2', whose shapes fit: was the layer renamed?" in error.cure
    assert "'conv2'" in found(diagnosis, "unused_weights")[0].what


def test_weights_of_other_shapes(tmp_path: Path) -> None:
    text = changed(("num_output: 32", "num_output: 30"))
    errors = found(examined(tmp_path, text), "weights", "error")
    assert [error.layer for error in errors] == ["conv2", "ip1"]
    assert "has shape [32, 16, 3, 3], the layer expects [30, 16, 3, 3]" in errors[0].what


def test_images_of_another_size_or_colour(tmp_path: Path) -> None:
    text = changed(("scale: 0.00390625", "crop_size: 12"), count=2)
    (error,) = found(examined(tmp_path, text), "weights", "error")
    assert error.layer == "ip1"
    assert "fed 32 values and wants 128" in error.cure
    source = write_lmdb(tmp_path / "rgb", [raw_datum(np.full((3, 16, 16), n, np.uint8), n) for n in range(4)])
    text = changed(("digits_data/test_lmdb", str(source)), ("digits_data/train_lmdb", str(source)))
    (error,) = found(examined(tmp_path, text), "weights", "error")
    assert error.layer == "conv1"
    assert "have 3 channels, the weights want 1" in error.cure


def _zero(blob: np.ndarray) -> None:
    blob[...] = 0


def _nan(blob: np.ndarray) -> None:
    blob.flat[0] = np.nan


def _negative(blob: np.ndarray) -> None:
    blob.flat[0] = -1


@pytest.mark.parametrize(
    ("layer", "position", "change", "severity", "what"),
    [
        ("conv1", 0, _nan, "error", "NaN in 1 of the 144 values of blob 0"),
        ("conv1", 0, _zero, "warning", "all weights (blob 0) are 0"),
        ("bn_conv1", 2, _zero, "warning", "the scale factor of BatchNorm (blob 2) is 0"),
        ("bn_conv1", 1, _negative, "warning", "a variance of BatchNorm (blob 1) is negative"),
    ],
    ids=["nan", "zero", "scale factor", "variance"],
)
def test_numbers_of_the_weights(
    tmp_path: Path, layer: str, position: int, change: object, severity: str, what: str
) -> None:
    weights = rewritten(tmp_path, with_blob(layer, position, change), RESNET_WEIGHTS)  # type: ignore[arg-type]
    (finding,) = found(examined(tmp_path, RESNET.read_text(), weights), "bad_weights")
    assert (finding.severity, finding.layer) == (severity, layer)
    assert finding.what.startswith(what)
    assert finding.file == str(weights)


def test_unreadable_files(tmp_path: Path) -> None:
    diagnosis = examined(tmp_path, LENET.read_text(), tmp_path / "gone.caffemodel")
    (error,) = diagnosis.of("error")
    assert error.check == "weights"
    assert "No such file" in error.what
    assert found(diagnosis, "in_place")  # the net is looked at all the same
    assert found(examined(tmp_path, LENET.read_text(), None), "no_weights", "note")


def listed(folder: Path, images: list[np.ndarray], *, labels: list[int] | None = None, more: str = "") -> str:
    """The LeNet on an image list of gray images."""
    lines = []
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(png(image))
        lines.append(f"{folder / f'{number}.png'} {labels[number] if labels else number % 10}\n")
    (folder / "list.txt").write_text("".join(lines) + more)
    old = 'type: "Data"'
    text = changed((old, 'type: "ImageData"'), count=2)
    for name in ("train", "test"):
        start = text.index(f'source: "digits_data/{name}_lmdb"')
        end = text.index("}", start)
        text = text[:start] + f'source: "{folder / "list.txt"}" batch_size: 2 is_color: false ' + text[end:]
    return text.replace("data_param", "image_data_param")


def noise(number: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.uint8)


def test_images_of_a_list(tmp_path: Path) -> None:
    healthy = listed(tmp_path, [noise(number) for number in range(4)])
    assert not examined(tmp_path, healthy).of("error")
    missing = listed(tmp_path, [noise(0), noise(1)], more=f"{tmp_path}/gone.png 3\n{tmp_path}/too.png 3\n")
    findings = found(examined(tmp_path, missing), "image", "error")
    assert len(findings) == 2  # one for each phase, at its layer
    assert "2 of 4 images of the list do not exist" in findings[0].what
    assert "gone.png" in findings[0].what
    sizes = listed(tmp_path, [noise(0), noise(1, 20)])
    assert "several sizes" in found(examined(tmp_path, sizes), "image", "error")[0].what
    same = listed(tmp_path, [noise(number) for number in range(4)], labels=[0] * 4)
    assert "all labels" in found(examined(tmp_path, same), "label", "warning")[0].what
    from_one = listed(tmp_path, [noise(number) for number in range(10)], labels=list(range(1, 11)))
    assert "these count from 1: take 1 off each" in found(examined(tmp_path, from_one), "label", "error")[0].cure
    empty = listed(tmp_path, [np.zeros((16, 16), np.uint8)] * 3)
    assert "the images are empty" in found(examined(tmp_path, empty), "empty_images", "warning")[0].what


def test_damaged_image(tmp_path: Path) -> None:
    text = listed(tmp_path, [noise(number) for number in range(4)])
    (tmp_path / "2.png").write_bytes(b"no image")
    findings = found(examined(tmp_path, text), "image", "error")
    assert "2.png" in findings[0].what
    assert "cannot be decoded" in findings[0].what


def test_empty_source(tmp_path: Path) -> None:
    source = write_lmdb(tmp_path / "empty", [])
    (error,) = examined(tmp_path, changed(("digits_data/test_lmdb", str(source)))).of("error")
    assert (error.check, error.layer) == ("source", "digits")
    assert "holds no records" in error.what


def test_mean_file_of_another_size(tmp_path: Path) -> None:
    mean = write_mean(tmp_path / "mean.binaryproto", np.zeros((1, 28, 28), np.float32))
    errors = examined(tmp_path, changed(("scale: 0.00390625", f'mean_file: "{mean}"'), count=2)).of("error")
    assert {error.check for error in errors} == {"transform"}
    assert "the mean image of shape [1, 28, 28] does not fit" in errors[0].what


def test_own_blobs_are_not_necessary(tmp_path: Path) -> None:
    layers = "".join(
        f'layer {{ name: "r{n}" type: "ReLU" bottom: "{"data" if n == 0 else f"r{n - 1}"}" top: "r{n}" }}\n'
        for n in range(3)
    )
    text = layers.join(
        [
            'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }\n',
            'layer { name: "f" type: "InnerProduct" bottom: "r2" top: "f" inner_product_param { num_output: 2 } }\n',
        ]
    )
    (note,) = found(examined(tmp_path, text, None), "own_blobs", "note")
    assert "not necessary here" in note.cure


def test_two_layers_of_one_name(tmp_path: Path) -> None:
    text = changed(('name: "conv2"', 'name: "conv1"'))
    (finding,) = found(examined(tmp_path, text), "duplicate_name", "warning")
    assert "two layers are named 'conv1'" in finding.what
    assert "rename one" in finding.cure
    assert finding.line == line_of(text, 'bottom: "pool1"') - 3


def test_what_fits_is_no_fault(tmp_path: Path) -> None:
    def padded(layer: LayerWeights) -> LayerWeights:
        return replace(layer, blobs=tuple(blob.reshape((1,) * (4 - blob.ndim) + blob.shape) for blob in layer.blobs))

    assert not examined(tmp_path, LENET.read_text(), rewritten(tmp_path, padded)).of("error")


@needs_shared
@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("cifar10_mobilenetv2_small/train_val", "cifar10_mobilenetv2_small/mobilenetv2_small"),
        ("cifar10_mobilenetv2_small/train_val_own_blobs", "cifar10_mobilenetv2_small/mobilenetv2_small"),
        ("cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000"),
        ("cifar10_resnet20/train_test", "cifar10_resnet20/resnet20"),
        ("cifar10_resnet20/train_test_own_blobs", "cifar10_resnet20/resnet20"),
        ("lenet_mnist/train_test", "lenet_mnist/lenet_iter_10000"),
        ("squeezenet_v1.0/train_val", "squeezenet_v1.0/squeezenet_v1.0"),
    ],
)
def test_real_nets_are_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, weights: str) -> None:
    monkeypatch.chdir(SHARED)
    folder = SHARED / "models"
    quick = not model.startswith("squeezenet")
    diagnosis = examined(
        tmp_path, (folder / f"{model}.prototxt").read_text(), folder / f"{weights}.caffemodel", quick_score=quick
    )
    assert not diagnosis.of("error") + diagnosis.of("warning")
