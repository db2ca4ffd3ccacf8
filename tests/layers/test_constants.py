"""Parameter and DummyData."""

from __future__ import annotations

import numpy as np
import pytest

from ristretto.numerics.arithmetic import Arithmetic
from tests.layers.harness import Case, cases, check, complaint, layer_text, run_case, shapes_of


def dummy(fields: str) -> str:
    return layer_text("DummyData", "dummy_data_param", fields)


def filled(*values: float, shapes: tuple[tuple[int, ...], ...]):
    return lambda *_: [np.full(shape, value) for value, shape in zip(values, shapes, strict=True)]


@cases(
    Case("zeros", dummy("shape { dim: [2, 3] }"), filled(0, shapes=((2, 3),)), ()),
    Case(
        "one-filler-two-tops",
        dummy('shape { dim: 4 } data_filler { type: "constant" value: 1.5 }'),
        filled(1.5, 1.5, shapes=((4,), (4,))),
        (),
        tops=2,
    ),
    Case(
        "each-its-own",
        dummy("shape { dim: 4 } shape { dim: [2, 1] } data_filler { value: 1 } data_filler { value: -2 }"),
        filled(1, -2, shapes=((4,), (2, 1))),
        (),
        tops=2,
    ),
    Case(
        "old-sides",
        dummy("num: 2 channels: 3 height: 1 width: 4 data_filler { value: 3 }"),
        filled(3, shapes=((2, 3, 1, 4),)),
        (),
    ),
)
def test_dummy_data(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("arithmetic", [Arithmetic.FLOAT32, Arithmetic.FLOAT64])
@pytest.mark.parametrize(
    ("filler", "mean", "least", "most"),
    [('type: "uniform" min: 2 max: 4', 3.0, 2.0, 4.0), ('type: "gaussian" mean: -1 std: 0.1', -1.0, -2.0, 0.0)],
)
def test_random_dummy_data(filler: str, mean: float, least: float, most: float, arithmetic: Arithmetic) -> None:
    case = Case("random", dummy(f"shape {{ dim: 2000 }} data_filler {{ {filler} }}"), lambda *_: 0.0, ())
    (top,), _, _ = run_case(case, 1, arithmetic)
    assert top.dtype == arithmetic.value
    assert abs(float(top.mean()) - mean) < 0.1
    assert least <= top.min() < top.max() <= most
    np.testing.assert_array_equal(run_case(case, 1, arithmetic)[0][0], top)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "0 shapes for 2 tops; give one shape, or one for each top"),
        ("num: 1 shape { dim: 1 }", "shape and num are both given; keep shape"),
        ("num: [1, 2, 3]", "num is given 3 times for 2 tops; give it once, or once for each top"),
        (
            "shape { dim: 1 } data_filler { } data_filler { } data_filler { }",
            "3 fillers for 2 tops; give none, one, or one for each top",
        ),
    ],
)
def test_dummy_data_complains(fields: str, message: str) -> None:
    assert complaint(dummy(fields), tops=2) == message


def test_dummy_data_complains_of_fillers() -> None:
    message = "a filler of type 'xavier' cannot make data; use constant, uniform or gaussian"
    assert complaint(dummy('shape { dim: 1 } data_filler { type: "xavier" }'), run=True) == message


def parameter(dims: str) -> str:
    return layer_text("Parameter", "parameter_param", f"shape {{ {dims} }}")


@cases(Case("parameter", parameter("dim: [2, 3]"), lambda _, blobs: blobs[0], (), tolerance=0.0))
def test_parameter(case: Case) -> None:
    check(case)


def test_parameter_blob() -> None:
    assert shapes_of(parameter("dim: [2, 3]")).blobs == ((2, 3),)
    assert complaint(parameter("dim: [2, 0]")) == "(2, 0) is no shape of a parameter"
