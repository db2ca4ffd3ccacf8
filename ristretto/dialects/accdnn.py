"""AccDNN: the original's prototxt, of which it reads six fields, for a chain of layers (docs/dialects.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, zip_longest

from ristretto.caffe.netspec import type_of
from ristretto.dialects.base import Formats, Said, Settled, fixed, with_width
from ristretto.dialects.fields import QUANTIZED_TYPES, quantization_fields
from ristretto.dialects.fields import Dialect as DialectName
from ristretto.dialects.settling import Settler, without_effect
from ristretto.dialects.wiring import Place, Wiring
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats

TYPES = frozenset({"Convolution", "InnerProduct"})
"""Types with weights that it computes."""

MAX_LAYERS = 15
"""How many of them a net may have."""

_CHAIN = TYPES | {"BatchNorm", "Dropout", "Input", "Pooling", "ReLU", "Scale", "Softmax"}
_BESIDES = frozenset({"Accuracy", "Data", "HDF5Data", "ImageData", "SoftmaxWithLoss"})
"""What only trains and scores; it does not belong in what AccDNN is given, and has no formats."""

_ACTIVATION_WIDTHS, _WEIGHT_WIDTHS = (16, 8), (16, 8, 4)
_WORD = 16
_PLAIN = LayerFormats(
    DynamicFixedPoint(_WORD, 6), DynamicFixedPoint(_WORD, 6), DynamicFixedPoint(_WORD, 13), DynamicFixedPoint(_WORD, 13)
)
"""What layers of float types get, which say nothing."""


class Accdnn:
    """Reads and writes for AccDNN."""

    name: DialectName = "accdnn"
    title = "AccDNN"

    def read(self, wiring: Wiring, nearest: bool) -> Formats:
        """The formats that AccDNN sees in a net; see ``DialectModule``."""
        stated = {place.name: _stated(place) for place in _linear(wiring)}
        return {**_as_computed(wiring, stated), **_averages(wiring, stated)}

    def settle(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Settled:
        """The nearest formats that can be said; see ``DialectModule``."""
        settlers = {place.name: Settler(place.name) for place in wiring.places}
        settled: Formats = {}
        chain = _linear(wiring)
        for number, place in enumerate(chain):
            if number >= MAX_LAYERS:
                what, cure = f"a layer with weights beside {number} others", f"it has room for {MAX_LAYERS}"
                settlers[place.name].refuse(what, cure=cure)
            if place.name not in plan:
                default = f"{_PLAIN.input}, weights in {_PLAIN.params}"
                settlers[place.name].refuse(f"a layer of type '{place.kind}' in float", default)
            settled[place.name] = _settle(plan.get(place.name, _PLAIN), settlers[place.name])
        for place, following in zip_longest(chain, chain[1:]):
            own = settled[place.name]
            near = _output(wiring, place, own, None if following is None else settled[following.name])
            settlers[place.name].instead("out", plan.get(place.name, _PLAIN).output, near)
            settled[place.name] = replace(own, output=near)
        settled.update(_averages(wiring, settled))
        ineffective = without_effect(wiring, plan)
        for place in wiring.places:
            formats, settler = plan.get(place.name), settlers[place.name]
            if place.kind not in _CHAIN | _BESIDES:
                cure = "it computes chains of Convolution, InnerProduct, Pooling, ReLU, BatchNorm and Scale"
                settler.refuse(f"a layer of type '{place.kind}'", cure=cure)
            elif place.kind not in TYPES and place.name not in ineffective:
                _compare_plain(place, formats, settled.get(place.name), settler)
        return Settled(settled, tuple(each for settler in settlers.values() for each in settler.refusals))

    def say(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> dict[int, Said]:
        """The six fields of each layer with weights; see ``DialectModule``."""
        said = {}
        for number, place in enumerate(wiring.places):
            if place.kind in TYPES and place.name in plan:
                lines = quantization_fields(place.name, plan[place.name], "original")
                said[number] = Said(QUANTIZED_TYPES[place.kind], "quantization_param", tuple(lines))
        return said


def _linear(wiring: Wiring) -> list[Place]:
    """The layers with weights, each name once."""
    return list({place.name: place for place in wiring.places if place.kind in TYPES}.values())


def _stated(place: Place) -> LayerFormats:
    """The six fields of a layer of a quantized type, whatever else is set; a float type has none."""
    if type_of(place.view) not in QUANTIZED_TYPES.values():
        return _PLAIN
    view = place.view.child("quantization_param")
    formats: dict[str, DynamicFixedPoint] = {}
    for part, widths in (
        ("layer_in", _ACTIVATION_WIDTHS),
        ("layer_out", _ACTIVATION_WIDTHS),
        ("params", _WEIGHT_WIDTHS),
    ):
        bw, field = view.integer(f"bw_{part}"), f"bw_{part}"
        if bw not in widths:
            known = ", ".join(map(str, widths))
            raise view.error(f"{field} is {bw}: AccDNN has {known} bits", cure="choose one of them", field=field)
        formats[part] = fixed(view, bw, view.integer(f"fl_{part}"), field)
    if formats["params"].bw > formats["layer_in"].bw:
        what = f"weights of {formats['params'].bw} bits for values of {formats['layer_in'].bw}"
        raise view.error(what, cure="AccDNN needs weights that are no wider", field="bw_params")
    return LayerFormats(formats["layer_in"], formats["layer_out"], formats["params"], formats["params"])


def _as_computed(wiring: Wiring, stated: Formats) -> Formats:
    """Formats as they are computed with; neighbours have to agree.

    Raises:
        RistrettoError: one layer stores values otherwise than the next takes them.
    """
    chain = _linear(wiring)
    computed = {}
    for place, following in zip_longest(chain, chain[1:]):
        formats = stated[place.name]
        output = _output(wiring, place, formats, None if following is None else stated[following.name])
        if output != formats.output and not _normalized(wiring, place):
            assert following is not None
            what = f"the output is stored in {formats.output}, and '{following.name}' takes {output}"
            view = place.view.child("quantization_param")
            raise view.error(what, cure="AccDNN needs them to be the same", field="fl_layer_out")
        computed[place.name] = replace(formats, output=output)
    return computed


def _normalized(wiring: Wiring, place: Place) -> bool:
    """Whether a BatchNorm follows before the next layer with weights."""
    for other in wiring.places[wiring.places.index(place) + 1 :]:
        if other.kind in TYPES:
            return False
        if other.kind == "BatchNorm":
            return True
    return False


def _output(wiring: Wiring, place: Place, formats: LayerFormats, following: LayerFormats | None) -> DynamicFixedPoint:
    """In which format a layer's output is kept: as the next takes it; before a BatchNorm in a whole word."""
    inputs, outputs, params = formats.input, formats.output, formats.params
    assert isinstance(inputs, DynamicFixedPoint)
    assert isinstance(params, DynamicFixedPoint)
    if _normalized(wiring, place):
        products = inputs.fl + params.fl
        wanted = with_width(outputs, _WORD).fl if isinstance(outputs, DynamicFixedPoint) else products
        return DynamicFixedPoint(_WORD, min(wanted, products))
    if following is not None and isinstance(following.input, DynamicFixedPoint):
        return following.input
    return outputs if isinstance(outputs, DynamicFixedPoint) else inputs


def _averages(wiring: Wiring, plan: Formats) -> Formats:
    """Average poolings, which are rounded to the format of what they read without saying so."""
    found = {}
    grids = wiring.stored(plan)
    chain = [place for place in wiring.places if place.kind in TYPES | {"Pooling"}]
    for before, place in pairwise(chain):
        if place.kind == "Pooling" and not place.keeps_grid and before.name in plan:
            after = next((plan[each.name].input for each in chain[chain.index(place) :] if each.name in plan), None)
            grid = grids.get(place.inputs[0]) or after or plan[before.name].output
            found[place.name] = LayerFormats(None, grid, in_place=False)
    return found


def _settle(formats: LayerFormats, settler: Settler) -> LayerFormats:
    inputs = settler.fixed("in", formats.input, _ACTIVATION_WIDTHS) or _PLAIN.input
    assert isinstance(inputs, DynamicFixedPoint)
    outputs = formats.output
    if isinstance(outputs, DynamicFixedPoint):
        near = Settler(settler.layer).fixed("out", outputs, _ACTIVATION_WIDTHS)
        outputs = near if near is not None else inputs
    widths = [width for width in _WEIGHT_WIDTHS if width <= inputs.bw]
    params = settler.weights(formats.params, widths, by_channel=False) or _PLAIN.params
    settler.instead("bias", formats.bias, params)
    settler.own_rounding(formats)
    return LayerFormats(inputs, outputs, params, params)


def _compare_plain(place: Place, wanted: LayerFormats | None, near: LayerFormats | None, settler: Settler) -> None:
    """Note formats of layers without fields of their own, where AccDNN has others."""
    wanted_out = None if wanted is None else wanted.output
    near_out = None if near is None else near.output
    odd = wanted is not None and any(fmt is not None for fmt in (wanted.params, wanted.bias))
    if wanted is not None and wanted.input is not None and (near is None or wanted.input != near.output):
        odd = True
    if odd or wanted_out != near_out:
        what = f"formats of a layer of type '{place.kind}'" if wanted is not None else f"a {place.kind} in float"
        settler.refuse(what, "float" if near_out is None else f"the format of what it reads, {near_out}")
