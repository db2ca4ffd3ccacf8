"""Parameter and DummyData."""

from __future__ import annotations

from ristretto.caffe.catalogue.constants import dummy_fillers
from ristretto.graph.registry import LayerContext, emits


@emits("Parameter")
def parameter(context: LayerContext) -> list[str]:
    """The layer's blob (parameter_layer.hpp)."""
    return [context.weight(context.blobs[0])]


@emits("DummyData")
def dummy_data(context: LayerContext) -> list[str]:
    """Blobs of one value, or of random numbers that are drawn anew for every batch (dummy_data_layer.cpp)."""
    outputs = []
    for number, (filler, shape) in enumerate(zip(dummy_fillers(context.layer), context.output_shapes, strict=True)):
        seed = float((context.seed + number) % (1 << 24))
        if filler.kind == "constant":
            output = context.op("Expand", context.nodes.floats(filler.value), context.nodes.ints(shape))
        elif filler.kind == "uniform":
            output = context.op("RandomUniform", shape=shape, low=filler.low, high=filler.high, seed=seed)
        elif filler.kind == "gaussian":
            output = context.op("RandomNormal", shape=shape, mean=filler.mean, scale=filler.std, seed=seed)
        else:
            what = f"a filler of type '{filler.kind}' cannot make data"
            cure = "use constant, uniform or gaussian"
            raise context.layer.view.error(what, cure=cure, field="dummy_data_param")
        outputs.append(output)
    return outputs
