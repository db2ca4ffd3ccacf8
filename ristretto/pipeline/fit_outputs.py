"""Integer lengths by what they do to a layer's output, one layer and one candidate at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.weights import Weights
from ristretto.decide.choose import activation_candidates, least_error, params_candidates
from ristretto.decide.plan import LayerSites
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.feed import Batch
from ristretto.pipeline.walk import Walk

OUTPUT_IMAGES = 64
"""How many images the outputs of layers are compared on."""

Array = NDArray[np.float32]


def fitted_to_outputs(
    sites: Mapping[str, LayerSites],
    net: NetSpec,
    weights: Weights,
    batches: tuple[Batch, ...],
    activation_widths: Collection[int],
    params_widths: Collection[int],
    threads: int = 0,
) -> dict[str, LayerSites]:
    """The sites with the lengths of inputs and weights that change the layer's output least, for each width.

    The rest of the layer and of the net is float. Layers that only join or move values are left as they are.

    Args:
        sites: what is known of the layers; lengths that are fitted already stand where this changes none.
        net: the net.
        weights: its float weights.
        batches: what to run.
        activation_widths: the widths of inputs to fit.
        params_widths: the widths of weights to fit.
        threads: threads per run.
    """
    fitted = dict(sites)
    walk = Walk(net, batches, threads)
    for number, layer in enumerate(net.layers):
        site, blobs = sites.get(layer.name), weights.get(layer.name)
        if site is None or site.group == "other" or not blobs:
            continue
        walk.advance(number, weights, {})
        output = layer.outputs[0]
        exact = walk.outputs(output, weights, {})
        signed = not site.unsigned_input

        def lost(
            formats: LayerFormats, name: str = layer.name, value: str = output, exact: list[Array] = exact
        ) -> float:
            made = walk.outputs(value, weights, {name: formats})
            return sum(
                float(np.sum(np.square(mine - wanted, dtype=np.float64)))
                for mine, wanted in zip(made, exact, strict=True)
            )

        inputs = {
            bw: least_error(
                {
                    il: lost(LayerFormats(input=DynamicFixedPoint(bw, bw - il, signed), in_place=False))
                    for il in activation_candidates(site.ranges.input, signed=signed)
                }
            )
            for bw in activation_widths
        }
        params = {
            bw: least_error(
                {il: lost(LayerFormats(params=DynamicFixedPoint(bw, bw - il))) for il in params_candidates(blobs[0])}
            )
            for bw in params_widths
        }
        lengths = {bw: replace(site.fitted.get(bw, site.lengths), input=il) for bw, il in inputs.items()}
        fitted[layer.name] = replace(
            site, fitted={**site.fitted, **lengths}, fitted_params={**site.fitted_params, **params}
        )
    return fitted
