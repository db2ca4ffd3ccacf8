"""Small models that tell whether a machine's integer kernels are exact.

Processors without instructions for it (AVX2 without VNNI) add pairs of products of eight bits in 16 bits, which are too
few: the greatest operands tell, through a convolution of each kind and a product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ristretto.graph.forms import CONTRIB
from ristretto.graph.nodes import OPSET


@dataclass(frozen=True, slots=True)
class Probe:
    """A model with an input ``x`` and an output ``y``, both uint8.

    Attributes:
        model: the model.
        x: what to feed it.
        expected: what every element of the output is if the kernel is exact.
    """

    model: onnx.ModelProto
    x: NDArray[np.uint8]
    expected: int


def probes() -> Iterator[Probe]:
    """Sums of the greatest products, positive and negative, with and without an offset of the inputs."""
    for channels, outputs, kernel, group in (
        (64, 32, 1, 1),
        (16, 16, 3, 1),
        (16, 8, 3, 2),
        (32, 32, 3, 32),
        (6, 5, 3, 1),
    ):
        inputs = ["x", "one", "x_zero", "w", "one", "w_zero", "step", "y_zero"]
        node = helper.make_node("QLinearConv", inputs, ["y"], domain=CONTRIB, channels_last=1, group=group)
        size = kernel + 1
        yield from _with_operands(node, (1, size, size, channels), (outputs, channels // group, kernel, kernel))
    inputs = ["x", "one", "x_zero", "w", "one", "w_zero", "", "step", "y_zero"]
    yield from _with_operands(helper.make_node("QGemm", inputs, ["y"], domain=CONTRIB, transB=1), (4, 96), (24, 96))


def _with_operands(node: onnx.NodeProto, fed: tuple[int, ...], weights: tuple[int, ...]) -> Iterator[Probe]:
    for sign, offset in ((1, 0), (-1, 0), (1, 128)):
        total = math.prod(weights[1:]) * (255 - offset) * 127 * sign
        step = 2.0 ** math.ceil(math.log2(abs(total) / 127))
        constants: dict[str, NDArray[Any]] = {
            "one": np.asarray(1, np.float32),
            "step": np.asarray(step, np.float32),
            "x_zero": np.asarray(offset, np.uint8),
            "w_zero": np.asarray(0, np.int8),
            "y_zero": np.asarray(128, np.uint8),
            "w": np.full(weights, 127 * sign, np.int8),
        }
        graph = helper.make_graph(
            [node],
            "probe",
            [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, fed)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        yield Probe(model, np.full(fed, 255, np.uint8), round(total / step) + 128)
