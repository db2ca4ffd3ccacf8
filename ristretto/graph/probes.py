"""Small models that tell whether a machine's integer kernels are exact.

Processors without instructions for it (AVX2 without VNNI) add pairs of products of eight bits in 16 bits, which are too
few: the greatest operands tell, through a convolution of each kind and a product of matrices. Others tell whether that
is all that is amiss (``pairs``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


_CONVOLUTIONS = ((64, 32, 1, 1), (16, 16, 3, 1), (16, 8, 3, 2), (32, 32, 3, 32), (6, 5, 3, 1))
"""Channels, outputs, kernel size and groups."""

_PRODUCT = (96, 24)
"""Inputs and outputs of a product of matrices."""

_LONE = ((1, 0, 0, 1), (1, 0, 1, 0), (0, 1, 1, 0), (0, 1, 0, 1))
"""Of two neighbours one counts: a kernel that adds up others in 16 bits has two that count."""


def joined(several: Sequence[Probe]) -> onnx.ModelProto:
    """One model of several probes: a session for each would take longer than a small job.

    Its inputs are ``x0``, ``x1``, ..., its outputs ``y0``, ``y1``, ...
    """
    parts: list[onnx.GraphProto] = []
    for number, probe in enumerate(several):
        part = onnx.GraphProto()
        part.CopyFrom(probe.model.graph)
        for tensor in part.initializer:
            tensor.name += str(number)
        for value in (*part.input, *part.output):
            value.name += str(number)
        for node in part.node:
            for names in (node.input, node.output):
                names[:] = [name and f"{name}{number}" for name in names]
        parts.append(part)
    graph = helper.make_graph(
        [node for part in parts for node in part.node],
        "probes",
        [each for part in parts for each in part.input],
        [each for part in parts for each in part.output],
        [each for part in parts for each in part.initializer],
    )
    first = several[0].model
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


def probes() -> Iterator[Probe]:
    """Sums of the greatest products, positive and negative, with and without an offset of the inputs."""
    yield from _probes((127,), np.int8)


def pair_probes() -> Iterator[Probe]:
    """The same for weights as ``pairs.stored_for_pairs`` has them."""
    yield from _probes((127,), np.uint8)
    yield from _probes((64,), np.int8)
    for lone in _LONE:
        yield from _probes([127 * counts for counts in lone], np.int8)


def _probes(weights: Sequence[int], stored: type[np.integer[Any]]) -> Iterator[Probe]:
    """Probes whose weights are the given ones again and again, in the order in which products are added up."""
    for channels, outputs, kernel, group in _CONVOLUTIONS:
        if len(weights) > 1 and (group > 1 or channels % len(weights)):
            continue
        inputs = ["x", "one", "x_zero", "w", "one", "w_zero", "step", "y_zero"]
        node = helper.make_node("QLinearConv", inputs, ["y"], domain=CONTRIB, channels_last=1, group=group)
        size, own = kernel + 1, channels // group
        codes = np.resize(weights, (outputs, kernel, kernel, own)).transpose(0, 3, 1, 2)
        yield from _with_operands([node], (1, size, size, channels), codes, codes[0].sum(), stored)
    codes, fed = np.resize(weights, _PRODUCT[::-1]), (4, _PRODUCT[0])
    inputs = ["x", "one", "x_zero", "w", "one", "w_zero", "", "step", "y_zero"]
    node = helper.make_node("QGemm", inputs, ["y"], domain=CONTRIB, transB=1)
    yield from _with_operands([node], fed, codes, codes[0].sum(), stored)
    inputs = ["x", "w", "one", "one", "x_zero", "w_zero"]
    node = helper.make_node("MatMulIntegerToFloat", inputs, ["sums"], domain=CONTRIB)
    rounded = helper.make_node("QuantizeLinear", ["sums", "step", "y_zero"], ["y"])
    yield from _with_operands([node, rounded], fed, codes.T, codes[0].sum(), stored)


def _with_operands(
    nodes: Sequence[onnx.NodeProto],
    fed: tuple[int, ...],
    codes: NDArray[Any],
    count: int,
    stored: type[np.integer[Any]],
) -> Iterator[Probe]:
    """Probes of weights, those of each output adding up to a count."""
    added = 128 if stored is np.uint8 else 0
    for sign, offset in ((1, 0), (-1, 0), (1, 128)):
        total = int(count) * (255 - offset) * sign
        step = 2.0 ** math.ceil(math.log2(abs(total) / 127))
        constants: dict[str, NDArray[Any]] = {
            "one": np.asarray(1, np.float32),
            "step": np.asarray(step, np.float32),
            "x_zero": np.asarray(offset, np.uint8),
            "w_zero": np.asarray(added, stored),
            "y_zero": np.asarray(128, np.uint8),
            "w": (codes * sign + added).astype(stored),
        }
        graph = helper.make_graph(
            nodes,
            "probe",
            [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, fed)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        yield Probe(model, np.full(fed, 255, np.uint8), round(total / step) + 128)
