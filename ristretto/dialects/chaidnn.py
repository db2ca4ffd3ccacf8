"""CHaiDNN: precision_param on plain types, 8 or 6 bits, fractional lengths or thresholds (docs/dialects.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ristretto.caffe.textproto import Message
from ristretto.caffe.view import View
from ristretto.dialects.base import Formats, Said, Settled, fixed, grid_of_scale, misplaced, number_text
from ristretto.dialects.fields import Dialect as DialectName
from ristretto.dialects.settling import Settler, bias_without_effect, copied, nearest_width, without_effect
from ristretto.dialects.wiring import Place, Wiring
from ristretto.errors import FormatError
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import LayerFormats

LENGTHS, THRESHOLDS = "DynamicFixed", "Xilinx"
"""The two values of quant_type."""

_CONV = frozenset({"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"})
_LINEAR = _CONV | {"InnerProduct"}
_OTHERS = frozenset({"BatchNorm", "Scale", "Pooling", "Eltwise"})
_WITH_THRESHOLDS = frozenset({"Deconvolution", "Concat", "ReLU", "Normalize"})
_NEEDED = _CONV | _OTHERS
_WIDTHS = (8, 6)
_THRESHOLD_BIAS_BW = 16


class Chaidnn:
    """Reads and writes for CHaiDNN."""

    name: DialectName = "chaidnn"
    title = "CHaiDNN"

    def read(self, wiring: Wiring, nearest: bool) -> Formats:
        """The formats that a net states; see ``DialectModule``."""
        found = {}
        for place in wiring.places:
            view = precision_of(place.view)
            if view is not None and place.kind in _LINEAR | _OTHERS | _WITH_THRESHOLDS:
                found[place.name] = _Reader(place, view, nearest).formats()
        ineffective = without_effect(wiring, found)
        return copied(wiring, {name: formats for name, formats in found.items() if name not in ineffective})

    def settle(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> Settled:
        """The nearest formats that can be said; see ``DialectModule``."""
        thresholds = any(isinstance(formats.params, ChannelFixedPoint) for formats in plan.values())
        known = _LINEAR | _OTHERS | (_WITH_THRESHOLDS if thresholds else frozenset())
        ineffective = without_effect(wiring, plan)
        settled: Formats = {}
        refusals = []
        for place in wiring.places:
            formats, settler = plan.get(place.name), Settler(place.name)
            if place.name in settled or place.name in ineffective:
                continue
            if formats is None:
                if place.kind in _NEEDED and not place.keeps_grid:
                    cure = "give it formats (quantize --other_layers), or fold it away (--fold)"
                    settler.refuse(f"a layer of type '{place.kind}' in float", cure=cure)
            elif place.kind not in known:
                settler.refuse(f"formats of a layer of type '{place.kind}'", "float")
            else:
                settler.rounds_for_all(wiring, place, plan)
                settled[place.name] = _settle(place, formats, settler, thresholds)
            refusals += settler.refusals
        return Settled(copied(wiring, settled), tuple(refusals))

    def say(self, wiring: Wiring, plan: Mapping[str, LayerFormats]) -> dict[int, Said]:
        """The fields of each layer, and of those that pass values on, since they are wanted there too."""
        thresholds = any(isinstance(formats.params, ChannelFixedPoint) for formats in plan.values())
        passing = {"Pooling", "Permute", "ReLU"} if thresholds else {"Pooling", "Permute"}
        grids = wiring.stored(plan)
        said = {}
        for number, place in enumerate(wiring.places):
            formats = plan.get(place.name)
            if formats is None and place.kind in passing and place.keeps_grid and place.inputs:
                grid = grids.get(place.inputs[0])
                formats = None if grid is None else LayerFormats(grid, grid)
            if formats is not None:
                said[number] = Said(place.kind, "precision_param", tuple(_lines(place, formats, thresholds)))
        return said


def precision_of(layer: View) -> View | None:
    """A layer's precision_param; CHaiDNN's first version had the same fields in quantization_param."""
    if layer.has("precision_param"):
        return layer.child("precision_param")
    old = layer.message.first("quantization_param")
    owner = layer.text("name")
    return View(layer.document, old, "PrecisionParameter", owner, layer) if isinstance(old, Message) else None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the precision_param of one layer."""

    place: Place
    view: View
    nearest: bool

    def formats(self) -> LayerFormats:
        view, kind = self.view, self.place.kind
        mode = view.text("quant_type")
        if mode not in (LENGTHS, THRESHOLDS):
            cure = f'write "{LENGTHS}" or "{THRESHOLDS}"'
            raise view.error(f"quant_type has no value '{mode}'", cure=cure, field="quant_type")
        thresholds = mode == THRESHOLDS
        inputs, outputs = (self._activation(part, thresholds) for part in ("layer_in", "layer_out"))
        params: Format | None = None
        bias: Format | None = None
        if kind in _LINEAR or kind == "Deconvolution":
            params = self._weights() if thresholds else self._pair("bw_params", "fl_params")
            bias = _bias(self.place, inputs, outputs, params, thresholds)
        elif kind == "Scale" and not thresholds:
            params = self._pair("scale_gamma_bw", "scale_gamma_fl")
            bias = self._pair("scale_beta_bw", "scale_beta_fl") if self.place.has_bias else None
        elif kind == "BatchNorm" and not thresholds:
            params = self._pair("batchnorm_mean_bw", "batchnorm_mean_fl")
            variance = self._pair("batchnorm_variance_bw", "batchnorm_variance_fl")
            if variance != params and not self.nearest:
                what = f"mean in {params} and variance in {variance}: they have one format here"
                cure = "fold the layer (ristretto fold), or --nearest takes that of the mean"
                raise view.error(what, cure=cure, field="batchnorm_variance_fl")
        return LayerFormats(inputs, outputs, params, bias)

    def _activation(self, part: str, thresholds: bool) -> DynamicFixedPoint:
        if not thresholds:
            return self._pair(f"bw_{part}", f"fl_{part}")
        bw = self._width(f"bw_{part}")
        self._needed(f"th_{part}")
        return fixed(self.view, bw, self._length(f"th_{part}", self.view.number(f"th_{part}"), bw), f"bw_{part}")

    def _pair(self, bw: str, fl: str) -> DynamicFixedPoint:
        width = self._width(bw)
        self._needed(fl)
        return fixed(self.view, width, self.view.integer(fl), bw)

    def _weights(self) -> DynamicFixedPoint | ChannelFixedPoint:
        bw = self._width("bw_params")
        self._needed("th_params")
        fls = tuple(self._length("th_params", value, bw) for value in self.view.numbers("th_params"))
        if len(fls) == 1:
            return fixed(self.view, bw, fls[0], "bw_params")
        try:
            return ChannelFixedPoint(bw, fls)
        except FormatError as error:
            raise misplaced(self.view, error, "bw_params") from error

    def _length(self, field: str, threshold: float, bw: int) -> int:
        """What a threshold comes to: the greatest code stands for it."""
        top = (1 << (bw - 1)) - 1
        scale = top / threshold if threshold else threshold
        return grid_of_scale(self.view, field, scale, nearest=self.nearest, ends=top)

    def _width(self, field: str) -> int:
        self._needed(field)
        bw = self.view.integer(field)
        if bw not in _WIDTHS:
            raise self.view.error(f"{field} is {bw}: CHaiDNN has 8 and 6 bits", cure="write 8 or 6", field=field)
        return bw

    def _needed(self, field: str) -> None:
        if not self.view.has(field):
            raise self.view.error(f"{field} is missing", cure="CHaiDNN has no default for it")


def _bias(
    place: Place, inputs: Format | None, outputs: Format | None, params: Format | None, thresholds: bool
) -> Format | None:
    """What CHaiDNN makes of a bias: the output's format; with thresholds 16 bits at the products' scale."""
    if not place.has_bias:
        return bias_without_effect(params)
    if not thresholds or not isinstance(inputs, DynamicFixedPoint):
        return outputs
    finest = max(params.fls) if isinstance(params, ChannelFixedPoint) else getattr(params, "fl", 0)
    return DynamicFixedPoint(_THRESHOLD_BIAS_BW, inputs.fl + finest)


def _settle(place: Place, formats: LayerFormats, settler: Settler, thresholds: bool) -> LayerFormats:
    """The nearest formats of one layer: one width for all its parts."""
    kind = place.kind
    linear = kind in _LINEAR or kind == "Deconvolution"
    weighted = linear or (kind in ("Scale", "BatchNorm") and not thresholds)
    parts = [formats.input, formats.output, *([formats.params] if weighted else [])]
    given = [part.bw for part in parts if isinstance(part, DynamicFixedPoint | ChannelFixedPoint)]
    width = (nearest_width(max(given, default=8), _WIDTHS),)
    inputs = settler.fixed("in", formats.input, width)
    outputs = settler.fixed("out", formats.output, width)
    params: Format | None = None
    bias: Format | None = None
    if linear:
        params = settler.weights(formats.params, width)
        bias = _bias(place, inputs, outputs, params, thresholds)
        if place.has_bias and bias is not None:
            settler.instead("bias", formats.bias, bias)
    elif weighted:
        params = settler.weights(formats.params, width, by_channel=False)
        bias = settler.fixed("bias", formats.bias, width) if kind == "Scale" and place.has_bias else None
    elif formats.params is not None or formats.bias is not None:
        settler.refuse(f"weights of a {kind} in {formats.params or formats.bias}", "float")
    settler.own_rounding(formats)
    return replace(formats, input=inputs, output=outputs, params=params, bias=bias, rounding=None)


def _lines(place: Place, formats: LayerFormats, thresholds: bool) -> list[str]:
    widths, points = [], []
    for part, fmt in (("layer_in", formats.input), ("layer_out", formats.output)):
        assert isinstance(fmt, DynamicFixedPoint)
        widths.append(f"bw_{part}: {fmt.bw}")
        points.append(f"th_{part}: {_threshold(fmt.bw, fmt.fl)}" if thresholds else f"fl_{part}: {fmt.fl}")
    params, bias = formats.params, formats.bias
    if isinstance(params, ChannelFixedPoint):
        widths.append(f"bw_params: {params.bw}")
        points += [f"th_params: {_threshold(params.bw, fl)}" for fl in params.fls]
    elif isinstance(params, DynamicFixedPoint) and place.kind == "Scale":
        points += [*_pair("scale_gamma", params), *(_pair("scale_beta", bias) if bias is not None else [])]
        # Beside a Scale alone any will do; behind a BatchNorm it is the format of the factor of both.
        points += _pair("scale_gamma_by_std", params)
    elif isinstance(params, DynamicFixedPoint) and place.kind == "BatchNorm":
        points += [*_pair("batchnorm_mean", params), *_pair("batchnorm_variance", params)]
    elif isinstance(params, DynamicFixedPoint):
        widths.append(f"bw_params: {params.bw}")
        points.append(f"th_params: {_threshold(params.bw, params.fl)}" if thresholds else f"fl_params: {params.fl}")
    return [f'quant_type: "{THRESHOLDS if thresholds else LENGTHS}"', *widths, *points]


def _pair(name: str, fmt: Format) -> list[str]:
    assert isinstance(fmt, DynamicFixedPoint)
    return [f"{name}_bw: {fmt.bw}", f"{name}_fl: {fmt.fl}"]


def _threshold(bw: int, fl: int) -> str:
    return number_text(math.ldexp((1 << (bw - 1)) - 1, -fl))
