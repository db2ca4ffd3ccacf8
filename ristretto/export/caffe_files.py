"""A quantized net as a plain prototxt and a .caffemodel, for tools that know no quantization (docs/export.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_folder, check_folder
from ristretto.caffe.edit import Edits
from ristretto.caffe.net import modernise, read_prototxt
from ristretto.caffe.netspec import LayerSpec, type_of
from ristretto.caffe.parameters import Blobs, fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import Document
from ristretto.caffe.view import View
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from ristretto.dialects.fields import float_type
from ristretto.errors import FormatError, NetError
from ristretto.export.job import Exported, ExportJob
from ristretto.graph.integer import LINEAR_TYPES
from ristretto.graph.integer_checks import linear_formats
from ristretto.graph.rounded_blobs import rounded_blobs
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.integer import aligned, bias_codes, weight_codes
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding

MODEL, WEIGHTS, SCALES = "net.prototxt", "net.caffemodel", "integers.json"

_LARGEST = 1 << 24
"""A float32 holds every integer up to this."""

_Scales = dict[str, Any]


def export_caffe(job: ExportJob) -> Exported:
    """Write weights as the values that their formats round them to, in float32, with a net that knows no formats.

    Raises:
        RistrettoError: the folder cannot be written, or weights do not fit the net.
    """
    return _write(job, lambda _layer, _formats, _rounding, blobs: (blobs, None))


def export_integer(job: ExportJob) -> Exported:
    """Write weights and biases as integers in float32, and beside them the scale of each.

    Raises:
        RistrettoError: the folder cannot be written, weights do not fit the net, or are no integers that a float32
            holds.
    """
    return _write(job, _codes)


_Convert = Callable[[LayerSpec, LayerFormats, Rounding, Blobs], tuple[Blobs, _Scales | None]]


def _write(job: ExportJob, convert: _Convert) -> Exported:
    options, net = job.options, job.net
    read = [options.model, *options.weights]
    check_folder(options.output, read, WEIGHTS, force=options.force)
    fed, warnings = job.shapes()
    blobs = fit_weights(net, infer_shapes(net, fed), job.weights)
    changed: dict[str, Blobs] = {}
    scales: dict[str, _Scales] = {}
    for number, (layer, own) in enumerate(zip(net.layers, blobs, strict=True)):
        formats = job.simulation.formats.get(layer.name)
        if formats is None or not own:
            continue
        rounding = formats.rounding or job.simulation.rounding
        rng = np.random.default_rng([job.simulation.seed, number])
        rounded = rounded_blobs(layer, own, formats, rounding, rng)
        changed[layer.name], told = convert(layer, formats, rounding, rounded)
        if told is not None:
            scales[layer.name] = told
    _check_shared(job, changed)
    document = _plain(modernise(read_prototxt(options.model)))
    last = {layer.name: layer for layer in job.weights.layers}
    layers = [_typed(replace(layer, blobs=changed.get(name, layer.blobs))) for name, layer in last.items()]
    with atomic_folder(options.output, read, WEIGHTS, force=options.force) as folder:
        (folder / MODEL).write_bytes(document.to_bytes())
        write_caffemodel(folder / WEIGHTS, net.name, layers)
        if scales:
            text = json.dumps({"layers": scales}, indent=2, allow_nan=False) + "\n"
            (folder / SCALES).write_text(text, encoding="utf-8")
    names = [MODEL, WEIGHTS, *([SCALES] if scales else [])]
    line = f"{len(changed)} layers with quantized weights in {', '.join(names)}"
    return Exported((line,), tuple(warnings))


def _typed(layer: LayerWeights) -> LayerWeights:
    """A layer's blobs under the type of the plain net; V1 files give numbers, which are no types."""
    return replace(layer, type="" if layer.type.isdigit() else float_type(layer.type))


def _plain(document: Document) -> Document:
    """The net without formats: every layer of the type that it had, no fields of formats, all else as it is."""
    edits = Edits(document)
    for layer in View.of(document, "NetParameter").children("layer"):
        kind = type_of(layer)
        if float_type(kind) != kind:
            edits.set_scalar(layer.message, "type", f'"{float_type(kind)}"')
        for field in layer.message.fields:
            if field.name in ("quantization_param", "precision_param"):
                edits.remove(field)
    return edits.apply()


def _check_shared(job: ExportJob, changed: Mapping[str, Blobs]) -> None:
    """Refuse a parameter that layers share and round otherwise: Caffe has one memory for all of them."""
    owners: dict[str, tuple[LayerSpec, NDArray[np.float32]]] = {}
    for layer in job.net.layers:
        for param, blob in zip(layer.view.children("param"), changed.get(layer.name, ()), strict=False):
            name = param.text("name")
            if not name:
                continue
            first, theirs = owners.setdefault(name, (layer, blob))
            if theirs.size != blob.size or not np.array_equal(theirs.ravel(), blob.ravel()):
                what = f"it shares the parameter '{name}' with layer '{first.name}' and stores it otherwise"
                raise layer.view.error(what, cure="give both the same formats", field="quantization_param")


def _codes(layer: LayerSpec, formats: LayerFormats, rounding: Rounding, blobs: Blobs) -> tuple[Blobs, _Scales | None]:
    """The integers of a layer's blobs, and at which scale they are."""
    try:
        codes, lengths = _integers(layer, formats, rounding, blobs)
    except FormatError as error:
        raise layer.view.error(error.what, cure=error.cure, field="quantization_param") from error
    for array, role in zip(codes, ("weights", "bias"), strict=False):
        if np.abs(array).max(initial=0) > _LARGEST:
            what = f"its {role} have integers of more than 24 bits, which the float32 of a .caffemodel does not hold"
            raise layer.view.error(what, cure="give it shorter fractional lengths", field="quantization_param")
    told: _Scales = {"type": float_type(layer.type)}
    for role, fmt in (("input", formats.input), ("output", formats.output)):
        if isinstance(fmt, DynamicFixedPoint):
            told[role] = {"bw": fmt.bw, "fl": fmt.fl, "signed": fmt.signed}
    told["blobs"] = [{"fl": list(fls) if len(fls) > 1 else fls[0] if fls else None} for fls in lengths]
    return tuple(array.astype(np.float32) for array in codes), told


def _integers(
    layer: LayerSpec, formats: LayerFormats, rounding: Rounding, blobs: Blobs
) -> tuple[list[NDArray[Any]], list[Sequence[int]]]:
    """The codes of each blob, and its fractional lengths: one, one for each index of axis 0, or none for floats."""
    if layer.type in LINEAR_TYPES:
        inputs, _, params = _linear_formats(layer, formats)
        codes, fls = weight_codes(blobs[0], params)
        if len(fls) > 1 and not _outputs_first(layer):
            # What is added up has to have one scale.
            codes, finest = aligned(codes, fls)
            fls = (finest,)
        found: list[NDArray[Any]] = [codes]
        lengths: list[Sequence[int]] = [fls]
        if len(blobs) > 1:
            accumulator = [fl + inputs.fl for fl in fls]
            found.append(bias_codes(blobs[1], accumulator, rounding))
            lengths.append(accumulator)
        return found, lengths
    roles: tuple[Format | None, ...] = (formats.params, formats.bias)
    if layer.type == "Scale" and len(layer.inputs) == 2:
        roles = (formats.bias,)
    elif layer.type == "BatchNorm":
        roles = (formats.params, formats.params)
    found, lengths = [], []
    for number, blob in enumerate(blobs):
        fmt = roles[number] if number < len(roles) else None
        fixed = isinstance(fmt, DynamicFixedPoint | ChannelFixedPoint)
        own: tuple[NDArray[Any], Sequence[int]] = weight_codes(blob, fmt) if fixed and fmt is not None else (blob, ())
        found.append(own[0])
        lengths.append(own[1])
    return found, lengths


def _linear_formats(layer: LayerSpec, formats: LayerFormats) -> tuple[DynamicFixedPoint, DynamicFixedPoint, Format]:
    try:
        return linear_formats(layer, formats)
    except NetError as error:
        cure = "give it fixed point formats, or use --target caffe"
        raise NetError(error.what, cure=cure, file=error.file, line=error.line, layer=layer.name) from error


def _outputs_first(layer: LayerSpec) -> bool:
    """Whether axis 0 of the weights counts the outputs."""
    if layer.type.startswith("Deconvolution"):
        return False
    return not layer.view.child("inner_product_param").flag("transpose")
