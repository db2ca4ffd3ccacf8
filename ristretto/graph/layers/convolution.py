"""Convolution and Deconvolution as ONNX Conv and ConvTranspose."""

from __future__ import annotations

from ristretto.caffe.catalogue.convolution import ConvParams, conv_params
from ristretto.graph.registry import LayerContext, emits


def _folded(context: LayerContext, value: str, shape: tuple[int, ...], axis: int) -> str:
    """Bring a bottom whose channel axis is not 1 into ONNX's (n, c, spatial...) form."""
    if axis == 1:
        return value
    return context.op("Reshape", value, context.nodes.ints([-1, *shape[axis:]]))


def _emit(context: LayerContext, op_type: str) -> list[str]:
    params: ConvParams = conv_params(context.layer, len(context.input_shapes[0]))
    weights = [context.weight(blob, stem) for blob, stem in zip(context.blobs, ("weight", "bias"), strict=False)]
    outputs = []
    for value, shape, out_shape in zip(context.inputs, context.input_shapes, context.output_shapes, strict=True):
        result = context.op(
            op_type,
            _folded(context, value, shape, params.axis),
            *weights,
            kernel_shape=params.kernel,
            strides=params.stride,
            pads=params.pad * 2,
            dilations=params.dilation,
            group=params.group,
        )
        if params.axis != 1:
            result = context.op("Reshape", result, context.nodes.ints(out_shape))
        outputs.append(result)
    return outputs


@emits("Convolution", "ConvolutionRistretto", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(context: LayerContext) -> list[str]:
    """Emit Conv, one per bottom, all with the same weights (conv_layer.cpp)."""
    return _emit(context, "Conv")


@emits("Deconvolution", "DeconvolutionRistretto")
def deconvolution(context: LayerContext) -> list[str]:
    """Emit ConvTranspose, one per bottom (deconv_layer.cpp)."""
    return _emit(context, "ConvTranspose")
