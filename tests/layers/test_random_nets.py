"""Random nets of all kinds of layers: every blob's shape and value against numpy.

Each layer's reference is given what the layer itself read, so that errors do not add up along the net and layers that
jump (Threshold, ArgMax, a pooling's mask) can be held to the same tolerance as all others. That a layer read the right
version of a blob follows from it: the versions are checked one by one, under names that the test works out itself.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ristretto.caffe.net import build_net
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.graph.build import Simulation, build
from ristretto.numerics.arithmetic import Arithmetic
from tests.layers import random_net, random_neurons, random_rearranging, random_windows, reference
from tests.layers.harness import Array, run_model
from tests.layers.random_net import Canvas, RandomNet, Step

MAKERS = {**random_windows.MAKERS, **random_neurons.MAKERS, **random_rearranging.MAKERS}
OFTEN = ["Convolution", "Deconvolution", "InnerProduct", "Pooling", "Eltwise", "Concat", "Slice", "Scale"]
KINDS = [*sorted(MAKERS), *OFTEN * 2]
TOLERANCES = {Arithmetic.FLOAT32: 1e-5, Arithmetic.FLOAT64: 1e-11}

quiet = settings(
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def drawn(seed: int, layers: list[int], last: str | None = None) -> RandomNet:
    """The net that follows from a seed, with a layer for each of some numbers; ``last`` is the type of the last."""
    canvas = Canvas()
    canvas.seed(seed, 0)
    canvas.feed(canvas.shape(4, 4))
    for number in layers:
        canvas.seed(seed, number)
        MAKERS[last if last and number == layers[-1] else canvas.choose(KINDS)](canvas)
    return canvas.net()


def nets(most: int, last: str | None = None) -> st.SearchStrategy[RandomNet]:
    """Nets of 1 to ``most`` layers (and the poolings some need), the type of the last one given or not.

    A layer follows from the net's seed and its own number, not from where it stands, so that a net that fails shrinks
    to the few layers that fail.
    """
    numbers = st.lists(st.integers(1, 2**32), min_size=1, max_size=most, unique=True)
    return st.builds(drawn, st.integers(0, 2**32), numbers, st.just(last))


def check(net: RandomNet, arithmetic: Arithmetic = Arithmetic.FLOAT32) -> None:
    """Build and run a net and compare all there is to compare."""
    spec = build_net(parse(net.text, "net.prototxt"), NetState("TEST"))
    shapes = infer_shapes(spec, {})
    expected = {net.version(blob, n): shape for blob, found in net.shapes.items() for n, shape in enumerate(found)}
    assert shapes.values == expected
    weights = [step.blobs for step in net.steps]
    assert [layer.blobs for layer in shapes.layers] == [tuple(blob.shape for blob in blobs) for blobs in weights]
    built = build(spec, shapes, weights, outputs=list(expected), simulation=Simulation(arithmetic=arithmetic))
    values = dict(zip(built.fetches, run_model(built, net.feeds), strict=True))
    for step in net.steps:
        bottoms = [values[net.version(*item)] for item in zip(step.bottoms, step.reads, strict=True)]
        tops = [values[net.version(*item)] for item in zip(step.tops, step.makes, strict=True)]
        if step.type == "Input":
            np.testing.assert_array_equal(tops[0], net.feeds[step.tops[0]])
        else:
            compare(step, bottoms, tops, arithmetic)


def compare(step: Step, bottoms: list[Array], tops: list[Array], arithmetic: Arithmetic) -> None:
    """One layer's tops with the reference's."""
    doubles = [[array.astype(np.float64) for array in arrays] for arrays in (bottoms, step.blobs)]
    with np.errstate(all="ignore"):
        results = step.forward(*doubles)
    for number, (top, wanted) in enumerate(zip(tops, results, strict=True)):
        assert top.dtype == arithmetic.value
        assert top.shape == wanted.value.shape
        wrong = ~(np.abs(top - wanted.value) <= wanted.allowed(TOLERANCES[arithmetic]))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            message = f"{step.text}\ntop {number} at {place}: {top[place]!r}, not {wanted.value[place]!r}"
            raise AssertionError(message)


def test_random_nets() -> None:
    """Long nets; all makers must have had their turn."""
    seen: Counter[str] = Counter()

    @settings(quiet, max_examples=300)
    @given(nets(8))
    def run(net: RandomNet) -> None:
        seen.update(step.type for step in net.steps)
        check(net)

    run()
    assert set(seen) >= set(MAKERS)


def test_random_nets_in_float64() -> None:
    """The same with a tolerance that one sum in float32 would break."""
    seen: Counter[str] = Counter()

    @settings(quiet, max_examples=300)
    @given(nets(8))
    def run(net: RandomNet) -> None:
        seen.update(step.type for step in net.steps)
        check(net, Arithmetic.FLOAT64)

    run()
    assert set(seen) >= set(MAKERS)


def test_only_the_outputs() -> None:
    """Where nobody asks for what lies between, onnxruntime joins layers: the outputs may change by a rounding."""

    @settings(quiet, max_examples=150)
    @given(nets(8))
    def run(net: RandomNet) -> None:
        spec = build_net(parse(net.text, "net.prototxt"), NetState("TEST"))
        shapes, weights = infer_shapes(spec, {}), [step.blobs for step in net.steps]
        assume(spec.outputs)
        outputs = [spec.finals[blob] for blob in spec.outputs]
        joined, separate = (
            dict(zip(built.fetches, run_model(built, net.feeds), strict=True))
            for built in (build(spec, shapes, weights, outputs=wanted) for wanted in (outputs, shapes.values))
        )
        for value in outputs:
            allowed = 1e-3 * np.abs(separate[value]).max()
            np.testing.assert_allclose(joined[value], separate[value], rtol=0.0, atol=allowed)

    run()


@pytest.mark.parametrize("last", sorted(MAKERS))
def test_every_type_behind_others(last: str) -> None:
    """Short nets that end in the type, or before it, where what was drawn for it grew too large."""
    seen: Counter[str] = Counter()

    @settings(quiet, max_examples=20)
    @given(nets(3, last))
    def run(net: RandomNet) -> None:
        seen[net.steps[-1].type.lower()] += 1
        check(net)

    run()
    assert seen[last.lower()] >= 5


def test_the_reference_knows_nothing_of_the_code() -> None:
    """It would repeat the faults it is to find."""
    modules = (random_net, random_neurons, random_rearranging, random_windows, reference)
    assert not [module.__name__ for module in modules if "ristretto" in Path(str(module.__file__)).read_text()]


@pytest.mark.slow
def test_many_random_nets() -> None:
    """Ten times as many."""

    @settings(quiet, max_examples=3000)
    @given(nets(8))
    def run(net: RandomNet) -> None:
        check(net)

    run()
