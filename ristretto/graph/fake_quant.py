"""Number formats as ONNX nodes, bit-equal to ``ristretto.numerics``."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ristretto.graph.nodes import NodeList
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.rounding import Rounding


def emit_quantize(nodes: NodeList, value: str, fmt: Format, rounding: Rounding, seed: int = 0) -> str:
    """Append nodes that round a value to a format and return the name of the result.

    Raises:
        TypeError: the format has a point for each channel, which is for weights alone.
    """
    if isinstance(fmt, DynamicFixedPoint):
        return _fixed_point(nodes, value, fmt, rounding, seed)
    if isinstance(fmt, Minifloat):
        return _minifloat(nodes, value, fmt, rounding, seed)
    if isinstance(fmt, PowerOfTwo):
        return _power_of_two(nodes, value, fmt, rounding, seed)
    message = f"{fmt} is a format of weights, not of values that flow"
    raise TypeError(message)


def emit_round(nodes: NodeList, value: str, rounding: Rounding, seed: int = 0, *, double: bool = False) -> str:
    """Append nodes that round a value to whole numbers; ``double`` says that it is float64."""
    if rounding is Rounding.HALF_EVEN:
        return nodes.op("Round", value)
    if rounding is Rounding.HALF_AWAY:
        magnitude = nodes.op("Abs", value)
        return nodes.op("Mul", _half_up(nodes, magnitude, double), nodes.op("Sign", value))
    if rounding is Rounding.HALF_UP:
        return _half_up(nodes, value, double)
    if rounding is Rounding.TRUNCATE:
        return nodes.op("Floor", value)
    return _stochastic(nodes, value, seed, double)


def _half_up(nodes: NodeList, value: str, double: bool) -> str:
    """Floor, plus one where the rest is at least a half (x + 0.5 would round 0.49999997 up)."""
    whole = nodes.op("Floor", value)
    rest = nodes.op("Sub", value, whole)
    half = nodes.constant(np.asarray(0.5, np.float64 if double else np.float32))
    up = nodes.op("GreaterOrEqual", rest, half)
    return nodes.op("Add", whole, nodes.op("Cast", up, to=_element(double)))


def _stochastic(nodes: NodeList, value: str, seed: int, double: bool) -> str:
    """Floor, plus one with the probability of the rest."""
    whole = nodes.op("Floor", value)
    rest = nodes.op("Sub", value, whole)
    uniform = nodes.op("RandomUniformLike", value, low=0.0, high=1.0, seed=float(seed % (1 << 24)))
    up = nodes.op("Less", uniform, rest)
    return nodes.op("Add", whole, nodes.op("Cast", up, to=_element(double)))


def _element(double: bool) -> int:
    return onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT


def emit_scaled(nodes: NodeList, value: str, exponent: int) -> str:
    """Append nodes that multiply a float32 by a power of two, in two steps where float32 cannot hold the factor."""
    while exponent:
        step = max(-126, min(127, exponent))
        value = nodes.op("Mul", value, nodes.floats(math.ldexp(1.0, step)))
        exponent -= step
    return value


def _fixed_point(nodes: NodeList, value: str, fmt: DynamicFixedPoint, rounding: Rounding, seed: int) -> str:
    """Saturate, scale to codes, round, scale back: the order of Trim2FixedPoint_cpu."""
    clipped = nodes.op("Clip", value, nodes.floats(fmt.min), nodes.floats(fmt.max))
    codes = emit_round(nodes, emit_scaled(nodes, clipped, fmt.fl), rounding, seed)
    return emit_scaled(nodes, codes, -fmt.fl)


def _exponent(nodes: NodeList, magnitude: str) -> tuple[str, str]:
    """The exponent e and the power 2**e with 2**e <= magnitude < 2**(e + 1), for normal magnitudes.

    The logarithm may be off by one next to a power of two; two comparisons mend that.
    """
    logarithm = nodes.op("Mul", nodes.op("Log", magnitude), nodes.floats(1.0 / math.log(2.0)))
    guess = nodes.op("Floor", logarithm)
    power = nodes.op("Pow", nodes.floats(2.0), guess)
    low = nodes.op("Cast", nodes.op("Less", magnitude, power), to=onnx.TensorProto.FLOAT)
    twice = nodes.op("Mul", power, nodes.floats(2.0))
    high = nodes.op("Cast", nodes.op("GreaterOrEqual", magnitude, twice), to=onnx.TensorProto.FLOAT)
    exponent = nodes.op("Add", nodes.op("Sub", guess, low), high)
    return exponent, nodes.op("Pow", nodes.floats(2.0), exponent)


def _minifloat(nodes: NodeList, value: str, fmt: Minifloat, rounding: Rounding, seed: int) -> str:
    """Round the fraction of the significand; what is too small becomes zero, what is too large max or infinite."""
    least_normal, float_max = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    infinite = fmt.overflow == "infinity"
    largest = min(2.0 * fmt.max, float_max) if infinite else fmt.max
    magnitude = nodes.op("Abs", value)
    if fmt.subnormals:
        # The power of a subnormal is that of the least normal number, and it has no leading one.
        bounded = nodes.op("Min", magnitude, nodes.floats(largest))
        safe = nodes.op("Max", bounded, nodes.floats(fmt.tiny_normal))
        _, power = _exponent(nodes, safe)
        significand = nodes.op("Div", bounded, power)
        normal = nodes.op("GreaterOrEqual", bounded, nodes.floats(fmt.tiny_normal))
        leading = nodes.op("Cast", normal, to=onnx.TensorProto.FLOAT)
    else:
        bounded = nodes.op("Clip", magnitude, nodes.floats(least_normal), nodes.floats(largest))
        _, power = _exponent(nodes, bounded)
        significand, leading = nodes.op("Div", bounded, power), nodes.floats(1.0)
    fraction = nodes.op("Sub", significand, leading)
    units = emit_round(nodes, emit_scaled(nodes, fraction, fmt.mant_bits), rounding, seed)
    rounded = nodes.op("Mul", nodes.op("Add", emit_scaled(nodes, units, -fmt.mant_bits), leading), power)
    if infinite:
        beyond = nodes.op("Greater", rounded, nodes.floats(fmt.max))
        if largest == float_max:
            beyond = nodes.op("Or", beyond, nodes.op("Greater", magnitude, nodes.floats(float_max)))
        rounded = nodes.op("Where", beyond, nodes.floats(math.inf), rounded)
    else:
        rounded = nodes.op("Min", rounded, nodes.floats(fmt.max))
    if fmt.subnormals:
        kept = nodes.op("Greater", rounded, nodes.floats(0.0))
    else:
        kept = nodes.op("GreaterOrEqual", magnitude, nodes.floats(max(fmt.tiny, least_normal)))
    # A product with zero keeps NaN, and the sign of a value that becomes zero.
    signed = nodes.op("Mul", rounded, nodes.op("Sign", value))
    return nodes.op("Where", kept, signed, nodes.op("Mul", value, nodes.floats(0.0)))


def _power_of_two(nodes: NodeList, value: str, fmt: PowerOfTwo, rounding: Rounding, seed: int) -> str:
    """The nearest power of two on the scale of logarithms, with the sign; zero counts as positive."""
    magnitude = nodes.op("Abs", value)
    low, high = math.ldexp(1.0, fmt.exp_min), math.ldexp(1.0, fmt.exp_max)
    safe = nodes.op("Clip", magnitude, nodes.floats(low), nodes.floats(high))
    _, power = _exponent(nodes, safe)
    significand = nodes.op("Div", safe, power)
    if rounding is Rounding.STOCHASTIC:
        logarithm = nodes.op("Mul", nodes.op("Log", significand), nodes.floats(1.0 / math.log(2.0)))
        uniform = nodes.op("RandomUniformLike", value, low=0.0, high=1.0, seed=float(seed % (1 << 24)))
        up = nodes.op("Less", uniform, logarithm)
    else:
        up = nodes.op("GreaterOrEqual", significand, nodes.floats(math.sqrt(2.0)))
    factor = nodes.op("Where", up, nodes.floats(2.0), nodes.floats(1.0))
    rounded = nodes.op("Min", nodes.op("Mul", power, factor), nodes.floats(high))
    if fmt.keep_zero:
        return nodes.op("Mul", rounded, nodes.op("Sign", value))
    negative = nodes.op("Less", value, nodes.floats(0.0))
    return nodes.op("Where", negative, nodes.op("Neg", rounded), rounded)
