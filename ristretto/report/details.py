"""What a report says of each quantized layer beyond its formats: how its values are spread, what its weights take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are spread over a range.

    Attributes:
        low, high: the range; what lies beyond is in the bins at its ends.
        counts: values in each of its bins of equal width.
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SiteDetails:
    """The float values of one site, and what its format makes of them.

    Attributes:
        elements: how many values were looked at.
        histogram: how they are spread; None where they are not finite.
        limits: the least and the greatest value of the format; None for a site in float.
        step: what its values are multiples of; None for formats that have no such number.
        saturated: how many values lie beyond the limits.
        sqnr_db: signal to noise ratio of the rounding; infinite where nothing is lost.
        rectified: whether the format has no sign because a ReLU comes next. What that would cut off anyway counts
            neither as saturated nor as noise.
    """

    elements: int
    histogram: Histogram | None
    limits: tuple[float, float] | None = None
    step: float | None = None
    saturated: int = 0
    sqnr_db: float = math.inf
    rectified: bool = False


@dataclass(frozen=True, slots=True)
class WeightSize:
    """What the parameters of a layer take.

    Attributes:
        weights, biases: how many there are.
        bytes_float: bytes in float32.
        bytes: bytes in the formats chosen, packed.
    """

    weights: int
    biases: int
    bytes_float: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LayerDetails:
    """One quantized layer.

    Attributes:
        sites: "in", "out" and "params", as far as it has them.
        size: of its parameters.
        macs: multiply-accumulates for one image.
    """

    sites: Mapping[str, SiteDetails]
    size: WeightSize
    macs: int


@dataclass(frozen=True, slots=True)
class NetDetails:
    """All quantized layers.

    Attributes:
        images: on how many calibration images the values were looked at.
        layers: by name.
        bytes_float: bytes of all parameters of the net that was given, in float32.
        bytes: bytes of all parameters of the quantized net; what is not quantized is counted in float32.
    """

    images: int
    layers: Mapping[str, LayerDetails]
    bytes_float: int
    bytes: int


def net_to_json(details: NetDetails) -> dict[str, Any]:
    """What the report says of the whole net."""
    return {
        "size": {"bytes_float": details.bytes_float, "bytes": details.bytes},
        "histogram_images": details.images,
    }


def layer_to_json(layer: LayerDetails) -> dict[str, Any]:
    """What the report says of one layer."""
    size = layer.size
    return {
        "macs": layer.macs,
        "size": {
            "weights": size.weights,
            "biases": size.biases,
            "bytes_float": size.bytes_float,
            "bytes": size.bytes,
        },
        "sites": {role: _site(site) for role, site in layer.sites.items()},
    }


def _site(site: SiteDetails) -> dict[str, Any]:
    written: dict[str, Any] = {"elements": site.elements}
    if site.limits is not None:
        written |= {
            "limits": list(site.limits),
            "step": site.step,
            "saturated": site.saturated,
            "sqnr_db": site.sqnr_db if math.isfinite(site.sqnr_db) else None,
            **({"rectified": True} if site.rectified else {}),
        }
    if site.histogram is not None:
        spread = site.histogram
        written["histogram"] = {"min": spread.low, "max": spread.high, "counts": list(spread.counts)}
    return written
