"""Axes as Caffe counts them."""

from __future__ import annotations

from ristretto.caffe.netspec import LayerSpec


def canonical_axis(layer: LayerSpec, axis: int, rank: int, field: str = "axis") -> int:
    """Turn a negative axis into its positive form (Blob::CanonicalAxisIndex).

    Raises:
        NetError: the axis does not exist.
    """
    if not -rank <= axis < rank:
        raise layer.view.error(f"axis {axis} is out of range for a bottom with {rank} axes", field=field)
    return axis % rank
