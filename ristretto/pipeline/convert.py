"""A net and its weights as an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnx.checker
import onnx.shape_inference

from ristretto.atomic import atomic_write_bytes, check_outputs, one_job
from ristretto.caffe.confined import confined_to
from ristretto.caffe.net import build_net, modernise, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec, Phase, Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import declared_shapes
from ristretto.caffe.weights import Weights, read_weights
from ristretto.data import open_data
from ristretto.dialects.registry import plan_of
from ristretto.errors import DataError, UsageError
from ristretto.graph.build import Simulation
from ristretto.graph.export import Export, export
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.caffe2onnx import convert_with_caffe2onnx
from ristretto.pipeline.feed import fed_layers, open_feed
from ristretto.pipeline.given import coerce
from ristretto.pipeline.plugins import load_plugins

Converter = Literal["native", "caffe2onnx"]

_NAMED = 5
"""Layers that a warning names before it counts the rest."""

_IMAGE_PARAMETERS = {"Data": "data_param", "ImageData": "image_data_param"}
"""The parameter messages of data layers that make images and labels."""

_KEEPS_CHANNELS = frozenset({"BatchNorm", "Scale", "Power", "Bias"})


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What to convert and how; the names are those of the command line.

    Attributes:
        model: the prototxt, deploy or train_val; a quantized one is converted with its roundings.
        weights: its weights files, later ones override.
        output: where to write the model.
        converter: our own, or the package caffe2onnx, which knows none of the options below.
        phase: the phase to build the net in.
        outputs: the blobs to compute; None for the net's outputs.
        batch: a length of axis 0 to hold fast; None for any length.
        rounding: how quantized layers round where they do not say so themselves.
        inputs: an npz file whose arrays tell the input shapes.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        seed: of stochastic rounding.
        version: of this program, for the model's producer_version.
        level, stages: of the state that the net is built in, beside the phase.
        plugins: modules that teach layer types, by name or as paths ending in .py (docs/plugins.md).
    """

    model: Path
    weights: tuple[Path, ...]
    output: Path
    converter: Converter = "native"
    phase: Phase = "TEST"
    outputs: tuple[str, ...] | None = None
    batch: int | None = None
    rounding: Rounding = Rounding.HALF_EVEN
    inputs: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    seed: int = 0
    version: str = ""
    plugins: tuple[str, ...] = ()
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        coerce(self)


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    Attributes:
        inputs, outputs: their names and shapes; a length that is not fixed is a name or "?".
        opset: the version of ONNX's operators.
        nodes: how many nodes the model has.
        warnings: what the user should know, a line each.
    """

    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    opset: int
    nodes: int
    warnings: tuple[str, ...]


@one_job()
def convert(options: ConvertOptions) -> Converted:
    """Write a net as an ONNX model.

    Raises:
        RistrettoError: a user's mistake, or a net that the converter cannot convert.
    """
    check_outputs([options.output], [options.model, *options.weights, *filter(None, [options.inputs])])
    if options.converter == "caffe2onnx":
        model = convert_with_caffe2onnx(options.model, options.weights)
        return _write(model, options.output, _faults(model))
    if options.seed < 0:
        raise UsageError(f"the seed must not be negative, got {options.seed}", cure="give 0 or a positive whole number")
    load_plugins(options.plugins)
    confined = confined_to(options.untrusted, options.model, options.data_root)
    document = modernise(read_prototxt(options.model, confined))
    net = build_net(document, NetState(options.phase, options.level, options.stages))
    weights = read_weights(options.weights, untrusted=options.untrusted) if options.weights else None
    formats = plan_of(net).layers if options.phase == "TEST" else {}
    fed, warnings = input_shapes(net, weights, options.inputs, options.data_root, options.seed)
    simulation = Simulation(formats, options.rounding, options.seed)
    exported = export(net, weights, fed, _wanted(net, options.outputs), simulation, options.batch)
    if options.batch is None and exported.batch is not None and exported.model.graph.input:
        warnings.append(_fixed_batch(exported))
    exported.model.producer_version = options.version
    return _write(exported.model, options.output, warnings)


def _wanted(net: NetSpec, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The blobs to compute: what is asked for, or the net's outputs but for those that only pass an input on."""
    if asked is None:
        fed = {value for layer in fed_layers(net) for value in layer.outputs}
        wanted = tuple(blob for blob in net.outputs if net.finals[blob] not in fed)
        if not wanted:
            raise UsageError("the net computes nothing from its inputs", file=net.file, cure="choose another phase")
        return wanted
    unknown = [blob for blob in asked if blob not in net.finals]
    if unknown or not asked:
        what = f"the net has no blob '{unknown[0]}'" if unknown else "--outputs names no blob"
        raise UsageError(what, file=net.file, cure=f"its blobs are {', '.join(net.finals)}")
    return tuple(dict.fromkeys(asked))


def input_shapes(
    net: NetSpec, weights: Weights | None, inputs: Path | None, data_root: Path | None, seed: int
) -> tuple[dict[str, Shape], list[str]]:
    """The shape of every input that the net's layers, their sources or the given arrays tell, and warnings.

    Raises:
        RistrettoError: nothing tells it.
    """
    if inputs is not None:
        return open_feed(net, inputs=inputs, data_root=None, seed=seed).shapes, []
    shapes: dict[str, Shape] = {}
    warnings = []
    for layer in fed_layers(net):
        declared = declared_shapes(layer)
        if declared is not None:
            shapes.update(zip(layer.tops, declared, strict=False))
            continue
        if layer.type == "Input":
            what = f"the shape of blob '{layer.tops[0]}' is not known"
            raise layer.view.error(
                what, cure="add input_param { shape { ... } }, or give arrays with --inputs data.npz"
            )
        try:
            shapes.update(open_data(layer, data_root=data_root, seed=seed).shapes)
        except (DataError, UsageError) as error:
            guess = _shapes_without_source(net, layer, weights)
            if guess is None:
                raise
            shapes.update(guess)
            image = " x ".join(map(str, guess[layer.tops[0]][1:]))
            warnings.append(f"layer '{layer.name}': {error.what}; taken for images of {image}")
    return shapes, warnings


def _shapes_without_source(net: NetSpec, layer: LayerSpec, weights: Weights | None) -> dict[str, Shape] | None:
    """The shapes of a data layer's tops from its own parameters and the weights of the net's first layer."""
    if layer.type not in _IMAGE_PARAMETERS:
        return None
    view = layer.view.child(_IMAGE_PARAMETERS[layer.type])
    crop = layer.view.child("transform_param").integer("crop_size")
    height = width = crop
    if not crop and layer.type == "ImageData":
        height, width = view.integer("new_height"), view.integer("new_width")
    channels = _channels(net, layer.outputs[0], weights)
    if min(height, width, channels) < 1:
        return None
    batch = view.integer("batch_size")
    return dict(zip(layer.tops, ((batch, channels, height, width), (batch,)), strict=False))


def _channels(net: NetSpec, value: str, weights: Weights | None) -> int:
    """The channels of an image, as the weights of the first convolution that reads it tell; 0 if none does."""
    reached = {value}
    for layer in net.layers:
        if not reached.intersection(layer.inputs):
            continue
        if layer.type in _KEEPS_CHANNELS:
            reached.update(layer.outputs)
        elif layer.type.startswith("Convolution"):
            blobs = weights.get(layer.name) if weights is not None else None
            group = layer.view.child("convolution_param").integer("group")
            return blobs[0].shape[1] * group if blobs and blobs[0].ndim == 4 else 0
    return 0


def _fixed_batch(exported: Export) -> str:
    layers = [f"'{name}'" for name in exported.at_fault]
    listed = ", ".join(layers[:_NAMED]) + (f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else "")
    because = f": it is part of {'layers' if len(layers) > 1 else 'layer'} {listed}" if layers else ""
    return f"the batch stays {exported.batch}{because}"


def _faults(model: onnx.ModelProto) -> list[str]:
    """What ONNX's own rules hold against a model, as one warning or none."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return [f"the model breaks rules of ONNX: {lines[0] if lines else 'no reason given'}"]
    return []


def _write(model: onnx.ModelProto, output: Path, warnings: list[str]) -> Converted:
    atomic_write_bytes(output, model.SerializeToString())
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    graph = model.graph
    return Converted(_shapes(graph.input), _shapes(graph.output), opset, len(graph.node), tuple(warnings))


def _shapes(infos: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int | str, ...]]:
    return {info.name: tuple(map(_length, info.type.tensor_type.shape.dim)) for info in infos}


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
