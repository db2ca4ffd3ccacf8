"""Rounding weights so that a layer's output, not each weight, stays close: error feedback along the inputs.

The method is that of optimal brain quantization in the order of columns (Frantar and Alistarh 2022, "Optimal Brain
Compression"; Frantar et al. 2022, "GPTQ"): the weights of one input are rounded, and what that does to the output is
made good, as far as it can be, by the weights of the inputs that are still to be rounded. On a layer's matrix of second
moments this is one elimination, without gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Round = Callable[[Matrix], Matrix]
"""Rounds the weights of one input, one for each output."""

DAMPING = 0.01
"""What is added to the diagonal, as a share of its mean: directions that images hardly show are not to be trusted."""

_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of a layer's inputs: means over many places of many images.

    Attributes:
        quantized: second moments (n, n) of the inputs in the quantized net, less their means.
        crossed: of the float net's inputs (rows) with the quantized net's (columns).
        float_mean, quantized_mean: the means (n,) of both.
    """

    quantized: Matrix
    crossed: Matrix
    float_mean: Matrix
    quantized_mean: Matrix


def moments(float_inputs: Matrix, quantized_inputs: Matrix) -> Moments:
    """The moments of inputs (places, n) that the two nets have at the same places."""
    float_mean, quantized_mean = float_inputs.mean(axis=0), quantized_inputs.mean(axis=0)
    centred, quantized = float_inputs - float_mean, quantized_inputs - quantized_mean
    places = len(quantized)
    return Moments(quantized.T @ quantized / places, centred.T @ quantized / places, float_mean, quantized_mean)


def compensated_rounding(weights: Matrix, inputs: Moments, round_input: Round) -> Matrix:
    """Weights on the grid whose outputs come close to those of float weights on float inputs.

    Args:
        weights: (outputs, n).
        inputs: the moments of the n inputs.
        round_input: rounds a column (outputs, 1) of the weights.

    Returns:
        rounded weights of the same shape.
    """
    gram = inputs.quantized + _damping(inputs.quantized)
    # The best float weights on the quantized inputs make good what earlier layers lost.
    wanted = np.linalg.solve(gram, (weights @ (inputs.crossed + _damping(inputs.quantized))).T).T
    order = np.argsort(-np.diag(gram))
    upper = np.linalg.cholesky(_inverse(gram[np.ix_(order, order)])).T
    left: Matrix = wanted[:, order].astype(np.float64)
    rounded = np.zeros_like(weights)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        made_good = np.zeros((len(weights), stop - start))
        for column in range(start, stop):
            rounded[:, column] = round_input(left[:, column : column + 1])[:, 0]
            lost: Matrix = (left[:, column] - rounded[:, column]) / upper[column, column]
            left[:, column:stop] -= lost[:, None] * upper[column, column:stop]
            made_good[:, column - start] = lost
        left[:, stop:] -= made_good @ upper[start:stop, stop:]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result


def bias_change(weights: Matrix, rounded: Matrix, inputs: Moments) -> Matrix:
    """What to add to each bias so that the mean output is the float net's (outputs,)."""
    change: Matrix = weights @ inputs.float_mean - rounded @ inputs.quantized_mean
    return change


def output_error(weights: Matrix, rounded: Matrix, inputs: Moments) -> float:
    """Mean squared error of the outputs that comes from rounding weights, on the quantized inputs, means aside."""
    change = rounded - weights
    return float(np.sum((change @ inputs.quantized) * change))


def _damping(gram: Matrix) -> Matrix:
    mean = float(np.mean(np.diag(gram)))
    damping: Matrix = np.eye(len(gram)) * (DAMPING * mean if mean > 0 else 1.0)
    return damping


def _inverse(gram: Matrix) -> Matrix:
    inverse = np.linalg.inv(gram)
    symmetric: Matrix = (inverse + inverse.T) / 2
    return symmetric
