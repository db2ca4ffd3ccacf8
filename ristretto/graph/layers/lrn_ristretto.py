"""LRNRistretto: response normalization with every intermediate in minifloat (pmgysel/caffe, lrn_ristretto_layer.cu)."""

from __future__ import annotations

from ristretto.caffe.catalogue.normalization import lrn_params
from ristretto.graph.fake_quant import emit_quantize
from ristretto.graph.registry import LayerContext, emits
from ristretto.numerics.formats import Minifloat


@emits("LRNRistretto")
def rounded_local_response(context: LayerContext) -> list[str]:
    """``x * (k + alpha / n * sum) ** -beta``, rounded after every step; the sum runs along the channels.

    Each channel adds the square that enters the window and takes off the one that leaves it. The input is rounded
    before and the product after this emitter, as those of every quantized layer are.
    """
    params, fmt = lrn_params(context.layer), context.formats.params
    if not isinstance(fmt, Minifloat):
        cure = "set precision: MINIFLOAT in its quantization_param"
        raise context.layer.view.error("an LRNRistretto layer knows minifloat only", cure=cure, field="type")
    if not params.across:
        cure = "use ACROSS_CHANNELS, or a plain LRN layer"
        raise context.layer.view.error("an LRNRistretto layer normalizes across channels only", cure=cure)
    nodes = context.nodes

    def rounded(value: str) -> str:
        return emit_quantize(nodes, value, fmt, context.rounding, context.seed)

    value = context.inputs[0]
    before = (params.size - 1) // 2
    after = params.size - before - 1
    channels = context.input_shapes[0][1]
    square = rounded(nodes.op("Mul", value, value))
    entering = nodes.op("Pad", square, nodes.ints([0, 0, 0, 0, 0, after, 0, 0]))
    leaving = nodes.op("Pad", square, nodes.ints([0, params.size, 0, 0, 0, 0, 0, 0]))
    leaving = nodes.op("Slice", leaving, nodes.ints([0]), nodes.ints([channels + after]), nodes.ints([1]))
    running, enters, leaves = (nodes.unique(stem) for stem in ("running", "enters", "leaves"))

    def step() -> list[str]:
        """One channel: the new sum, once as the state and once as an element of the result."""
        added = rounded(nodes.op("Add", running, enters))
        total = rounded(nodes.op("Sub", added, leaves))
        return [nodes.op("Identity", total), nodes.op("Identity", total)]

    body = nodes.body(nodes.unique("window"), (running, enters, leaves), step)
    start = nodes.op("ReduceSum", nodes.op("Sub", square, square), nodes.ints([1]), keepdims=0)
    _, sums = nodes.ops(
        "Scan",
        start,
        entering,
        leaving,
        count=2,
        body=body,
        num_scan_inputs=2,
        scan_input_axes=[1, 1],
        scan_output_axes=[1],
    )
    sums = nodes.op("Slice", sums, nodes.ints([after]), nodes.ints([channels + after]), nodes.ints([1]))
    scaled = rounded(nodes.op("Mul", sums, nodes.floats(params.alpha / params.size)))
    scale = rounded(nodes.op("Add", scaled, nodes.floats(params.k)))
    factor = rounded(nodes.op("Pow", scale, nodes.floats(-params.beta)))
    return [nodes.op("Mul", value, factor)]
