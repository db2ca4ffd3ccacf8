"""Models for others: clean by ONNX's own rules, named after the prototxt, and right for any batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnxruntime
import pytest
from numpy.typing import NDArray

from ristretto.caffe.net import build_net, modernise, read_prototxt
from ristretto.caffe.rules import NetState
from ristretto.caffe.weights import LayerWeights, Weights, read_weights
from ristretto.dialects.fields import read_plan
from ristretto.errors import NetError, RistrettoError, UsageError
from ristretto.graph.build import Simulation
from ristretto.graph.export import export
from ristretto.pipeline import caffe2onnx
from ristretto.pipeline.convert import ConvertOptions, convert
from ristretto.pipeline.feed import fed_layers
from ristretto.pipeline.runner import Runner
from tests.golden.shared import SHARED, cases, needs_shared

MODELS = Path(__file__).resolve().parents[2] / "models"
LENET = MODELS / "digits_lenet"
BATCHES = (1, 3, 7)

MIXES_IMAGES = {
    "face_rfb320/RFB-320": "the batch stays 1: it is part of layers '328', '342', '374', '388', '414' and 3 more",
}
"""Nets whose Reshape layers say ``dim: 1`` first, and the warning."""

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Net:
    prototxt: Path
    weights: Path


def net_of(prototxt: Path) -> Net:
    """A net and the weights file beside it, of several the one whose name begins the net's."""
    weights = sorted(prototxt.parent.glob("*.caffemodel"))
    named = [path for path in weights if prototxt.stem.startswith(path.stem)]
    return Net(prototxt, (named or weights)[0])


def golden_net(inputs: Path) -> Net:
    return net_of(inputs.with_name(inputs.name.removeprefix("golden_").removesuffix("_inputs.npz") + ".prototxt"))


def label(net: Net) -> str:
    return f"{net.prototxt.parent.name}/{net.prototxt.stem}"


SHIPPED = [net_of(path) for path in sorted(MODELS.glob("digits_*/*.prototxt"))]
DEPLOYS = [net for net in SHIPPED if net.prototxt.stem == "deploy"]
GOLDEN = [golden_net(path) for path in cases("models/*/golden_*_inputs.npz")]


def made(net: Net, folder: Path, **options: object) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    output = folder / "net.onnx"
    done = convert(ConvertOptions(net.prototxt, (net.weights,), output, data_root=MODELS, **options))  # type: ignore[arg-type]
    return onnx.load(output), done.warnings


def lengths(info: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]


def assert_clean(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [(entry.domain, entry.version >= 17) for entry in model.opset_import] == [("", True)]
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert not initializers.intersection(info.name for info in model.graph.input)
    assert all(info.type.tensor_type.HasField("shape") for info in model.graph.output)


def inputs_for(model: onnx.ModelProto, batch: int, given: Arrays | None = None) -> Arrays:
    """Images that differ, as many as asked for: the given one, made darker each time, or random ones."""
    rng = np.random.default_rng(1)
    feeds = {}
    for info in model.graph.input:
        shape = [batch, *lengths(info)[1:]]
        if given is not None:
            images = given[info.name][:1] * np.linspace(1, 0.5, batch).reshape(-1, *(1,) * (len(shape) - 1))
        else:
            images = rng.integers(0, 10, shape) if len(shape) == 1 else rng.uniform(0, 1, shape)
        feeds[info.name] = images.astype(np.float32)
    return feeds


def assert_right_for_any_batch(
    net: Net, model: onnx.ModelProto, given: Arrays | None = None, batches: tuple[int, ...] = BATCHES
) -> None:
    """The model makes of each image what ``run`` makes of it alone."""
    wanted = [info.name for info in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    spec = build_net(modernise(read_prototxt(net.prototxt)), NetState("TEST"))
    fed = {top: np.zeros(1, np.float32) for layer in fed_layers(spec) for top in layer.tops}
    alone = Runner(spec, read_weights([net.weights]), [spec.finals[name] for name in wanted], threads=1)
    most = inputs_for(model, max(batches), given)
    single = []
    for image in range(max(batches)):
        values, _ = alone.run(fed | {name: array[image : image + 1] for name, array in most.items()})
        single.append([values[spec.finals[name]] for name in wanted])
    for batch in batches:
        results = session.run(wanted, {name: array[:batch] for name, array in most.items()})
        for position, (info, result) in enumerate(zip(model.graph.output, results, strict=True)):
            parts = [outputs[position] for outputs in single[:batch]]
            if info.name == "detection_out":  # rows of all images, numbered in their first column
                parts = [part[0, 0] + np.array([i, 0, 0, 0, 0, 0, 0]) for i, part in enumerate(parts)]
                result = result[0, 0]
            elif not result.ndim:  # scores and losses, means over the batch
                parts = [np.mean(parts, keepdims=True)]
                result = result.reshape(1)
            else:
                assert lengths(info)[0] == ("N" if len(batches) > 1 else 1)
            expected = np.concatenate(parts)
            # float32 sums are grouped otherwise for another batch
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=info.name)


@pytest.mark.parametrize("net", SHIPPED, ids=label)
def test_shipped_nets_are_clean_and_take_any_batch(net: Net, tmp_path: Path) -> None:
    model, warnings = made(net, tmp_path)
    assert warnings == ()
    assert_clean(model)
    train_val = net.prototxt.stem == "train_val"
    assert [info.name for info in model.graph.input] == ["data", "label"][: 1 + train_val]
    assert [info.name for info in model.graph.output] == (["accuracy", "loss"] if train_val else ["prob"])
    assert lengths(model.graph.input[0]) == ["N", 1, 16, 16]
    assert_right_for_any_batch(net, model)


@needs_shared
@pytest.mark.parametrize("net", GOLDEN, ids=label)
def test_golden_nets_are_clean_and_take_any_batch(net: Net, tmp_path: Path) -> None:
    model, warnings = made(net, tmp_path)
    mixes = label(net) in MIXES_IMAGES
    assert warnings == ((MIXES_IMAGES[label(net)],) if mixes else ())
    assert_clean(model)
    stem = net.prototxt.stem
    inputs, outputs = (
        dict(np.load(net.prototxt.with_name(f"golden_{stem}_{kind}.npz"))) for kind in ("inputs", "outputs")
    )
    assert {info.name for info in model.graph.input} == set(inputs)
    assert {info.name for info in model.graph.output} == set(outputs)
    if mixes:
        assert lengths(model.graph.input[0]) == list(inputs["input"].shape)
    assert_right_for_any_batch(net, model, inputs, (1,) if mixes else BATCHES)


@needs_shared
def test_a_source_that_is_not_there_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, warnings = made(net_of(SHARED / "models/squeezenet_v1.0/train_val.prototxt"), tmp_path)
    assert lengths(model.graph.input[0]) == ["N", 3, 227, 227]
    assert [info.name for info in model.graph.input] == ["data", "label"]
    assert len(warnings) == 1
    assert warnings[0].endswith("; taken for images of 3 x 227 x 227")


def test_the_model_is_named_after_the_prototxt(tmp_path: Path) -> None:
    model, _ = made(net_of(LENET / "deploy.prototxt"), tmp_path, version="9.8.7")
    spec = build_net(read_prototxt(LENET / "deploy.prototxt"), NetState("TEST"))
    assert model.graph.name == spec.name
    assert (model.producer_name, model.producer_version) == ("ristretto", "9.8.7")
    assert model.doc_string == "converted from deploy.prototxt"
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    layers = {layer.name for layer in spec.layers}
    assert {node.name.split("/")[0] for node in model.graph.node} <= layers


def net_file(folder: Path, *layers: str) -> Net:
    """A net without a name, of an input ``data`` and the given layers, which need no weights."""
    path = folder / "some_net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 2 dim: 2 } } }\n'
        + "\n".join(layers)
    )
    return Net(path, path)


def plain(net: Net, folder: Path, **options: object) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    done = convert(ConvertOptions(net.prototxt, (), folder / "net.onnx", **options))  # type: ignore[arg-type]
    return onnx.load(folder / "net.onnx"), done.warnings


def weights_of(layer: str, *shapes: tuple[int, ...]) -> Weights:
    """Weights of ones for one layer."""
    return Weights((LayerWeights(layer, "", tuple(np.ones(shape, np.float32) for shape in shapes)),), ())


RELU = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "out" }'


def test_a_net_without_a_name_has_its_files(tmp_path: Path) -> None:
    model, _ = plain(net_file(tmp_path, RELU), tmp_path)
    assert model.graph.name == "some_net"


def test_a_layer_that_bakes_the_batch_in_is_named(tmp_path: Path) -> None:
    reshape = (
        'layer { name: "flat" type: "Reshape" bottom: "data" top: "out" reshape_param { shape { dim: 1 dim: 16 } } }'
    )
    model, warnings = plain(net_file(tmp_path, reshape), tmp_path)
    assert warnings == ("the batch stays 1: it is part of layer 'flat'",)
    assert lengths(model.graph.input[0]) == [1, 4, 2, 2]
    assert lengths(model.graph.output[0]) == [1, 16]
    assert_clean(model)


def test_a_layer_that_bakes_the_batch_in_is_found_among_the_nodes(tmp_path: Path) -> None:
    """Axis 0 of a recurrent layer is time, and its steps are written out."""
    path = tmp_path / "recurrent.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 } } }\n'
        'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "out" recurrent_param { num_output: 3 } }'
    )
    spec = build_net(read_prototxt(path), NetState("TEST"))
    weights = weights_of("lstm", (12, 4), (12,), (12, 3))
    result = export(spec, weights, {"data": (2, 3, 4), "cont": (2, 3)}, ("out",), Simulation())
    assert (result.batch, result.at_fault) == (2, ("lstm",))
    assert_clean(result.model)


def test_nets_whose_batch_is_free_only_in_the_inputs(tmp_path: Path) -> None:
    """An output whose first axis is a multiple of the batch has no name for it."""
    reshape = (
        'layer { name: "flat" type: "Reshape" bottom: "data" top: "out" reshape_param { shape { dim: -1 dim: 4 } } }'
    )
    model, warnings = plain(net_file(tmp_path, reshape), tmp_path)
    assert warnings == ()
    assert lengths(model.graph.input[0]) == ["N", 4, 2, 2]
    assert lengths(model.graph.output[0]) == [0, 4]


def test_the_batch_can_be_fixed(tmp_path: Path) -> None:
    model, warnings = plain(net_file(tmp_path, RELU), tmp_path, batch=5)
    assert warnings == ()
    assert lengths(model.graph.input[0]) == lengths(model.graph.output[0]) == [5, 4, 2, 2]


def test_blobs_asked_for_keep_their_names(tmp_path: Path) -> None:
    model, _ = made(net_of(LENET / "train_val.prototxt"), tmp_path, outputs=("label", "conv1", "accuracy"))
    assert [info.name for info in model.graph.output] == ["label", "conv1", "accuracy"]
    assert_clean(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = inputs_for(model, 3)
    assert session.run(["label"], feeds)[0].tolist() == feeds["label"].tolist()


def test_a_blob_nobody_asked_for_costs_no_input(tmp_path: Path) -> None:
    model, _ = made(net_of(LENET / "train_val.prototxt"), tmp_path, outputs=("conv1",))
    assert [info.name for info in model.graph.input] == ["data"]


def test_a_quantized_net_is_converted_with_its_roundings(tmp_path: Path) -> None:
    fields = "bw_layer_in: 4 bw_layer_out: 4 bw_params: 4 fl_layer_in: 1 fl_layer_out: 2 fl_params: 3"
    text = (LENET / "deploy.prototxt").read_text()
    start = text.index("convolution_param")
    text = text[:start] + f"quantization_param {{ precision: DYNAMIC_FIXED_POINT {fields} }} " + text[start:]
    path = tmp_path / "quantized.prototxt"
    path.write_text(text.replace('"Convolution"', '"ConvolutionRistretto"', 1))
    net = Net(path, LENET / "digits_lenet.caffemodel")
    model, _ = made(net, tmp_path, outputs=("conv1",))
    assert_clean(model)
    assert "Round" in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    codes = session.run(["conv1"], inputs_for(model, 2))[0] * 4
    np.testing.assert_array_equal(codes, np.round(codes))
    assert np.abs(codes).max() <= 8


def test_a_blob_that_is_rounded_later_keeps_its_name(tmp_path: Path) -> None:
    """What Caffe holds in the blob at the end is what comes out under its name."""
    fields = "bw_layer_in: 4 bw_layer_out: 16 bw_params: 16 fl_layer_in: 1 fl_layer_out: 8 fl_params: 8"
    layers = (
        'layer { name: "relu" type: "ReLU" bottom: "data" top: "x" }',
        'layer { name: "fc" type: "FcRistretto" bottom: "x" top: "y" inner_product_param { num_output: 2 } '
        f"quantization_param {{ precision: DYNAMIC_FIXED_POINT {fields} }} }}",
    )
    net = net_file(tmp_path, *layers)
    spec = build_net(read_prototxt(net.prototxt), NetState("TEST"))
    simulation = Simulation(read_plan(spec).layers)
    weights = weights_of("fc", (2, 16), (2,))
    model = export(spec, weights, {"data": (1, 4, 2, 2)}, ("x", "y"), simulation).model
    assert [info.name for info in model.graph.output] == ["x", "y"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    data = np.full((1, 4, 2, 2), 1.3, np.float32)
    assert np.unique(session.run(["x"], {"data": data})[0]).tolist() == [1.5]


def test_an_unknown_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the net has no blob 'nothing'; its blobs are data, out"):
        plain(net_file(tmp_path, RELU), tmp_path, outputs=("nothing",))


def test_no_outputs_at_all_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--outputs names no blob"):
        plain(net_file(tmp_path, RELU), tmp_path, outputs=())


def test_a_net_that_only_passes_its_input_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the net computes nothing from its inputs"):
        plain(net_file(tmp_path), tmp_path)


def test_models_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristretto.graph.export.MAX_MODEL_BYTES", 100)
    with pytest.raises(NetError, match="the model would be larger than the 2 GB that one ONNX file can hold"):
        plain(net_file(tmp_path, RELU), tmp_path)
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.skipif(not caffe2onnx.is_installed(), reason=f"no caffe2onnx: {caffe2onnx.INSTALL}")
def test_the_second_opinion_agrees(tmp_path: Path) -> None:
    net = net_of(LENET / "deploy.prototxt")
    model, warnings = made(net, tmp_path, converter="caffe2onnx")
    assert warnings == ()
    assert_clean(model)
    ours, _ = made(net, tmp_path)
    feeds = inputs_for(ours, 1)
    results = []
    for each in (model, ours):
        session = onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {each.graph.input[0].name: feeds["data"]})[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not caffe2onnx.is_installed(), reason=f"no caffe2onnx: {caffe2onnx.INSTALL}")
def test_what_the_second_opinion_says_at_last_is_the_message(tmp_path: Path) -> None:
    with pytest.raises(RistrettoError, match=r"caffe2onnx failed: ValueError: the caffe model has no input$"):
        made(net_of(LENET / "train_val.prototxt"), tmp_path, converter="caffe2onnx")
