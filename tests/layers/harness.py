"""Run one layer through the whole way from prototxt to onnxruntime, and compare it with numpy."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from ristretto.caffe.catalogue.registry import LayerShapes
from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import NetShapes, infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.errors import NetError
from ristretto.graph.build import BuiltNet, Simulation, build
from ristretto.graph.steady import steady
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.runtime.session import Session

Array = NDArray[np.float32]
Arrays = tuple[Array, ...]

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no golden files: {SHARED} is not there")


def stored(number: float) -> float:
    """A number of a prototxt as Caffe's schema stores it: float32, whatever the net computes in."""
    return float(np.float32(number))


@dataclass(frozen=True)
class Case:
    """One layer, what it is fed and what must come out.

    Attributes:
        id: the test's name.
        layer: the layer's text without name, bottoms and tops.
        expected: from the bottoms and the blobs to the top or tops, written from Caffe's formulas.
        inputs: the shape of each bottom, to be filled with normal random numbers, or the bottom itself.
        tops: how many tops.
        phase: TEST or TRAIN.
        blobs: the weights; random ones of the shapes that the shape rule names where not given.
        tolerance: largest difference allowed, relative to the largest expected value (float32 sums round).
        double: the same in float64; 1e-6 where the layer's own constants are float32 numbers.
    """

    id: str
    layer: str
    expected: Callable[[Arrays, Arrays], Array | Sequence[Array]]
    inputs: tuple[Shape | Array, ...] = ((2, 6, 7, 9),)
    tops: int = 1
    phase: str = "TEST"
    blobs: Arrays | None = None
    tolerance: float = 1e-5
    double: float = 1e-12


def cases(*items: Case) -> pytest.MarkDecorator:
    """Parametrise a test over cases, named by their ids."""
    return pytest.mark.parametrize("case", items, ids=[item.id for item in items])


def layer_text(type_name: str, message: str, fields: str) -> str:
    """A layer's type and its parameter message."""
    return f'type: "{type_name}" {message} {{ {fields} }}'


def net_text(layer: str, shapes: Sequence[Shape], tops: int) -> str:
    """The prototxt of a net of input layers b0, b1, ... and the layer ``l`` with tops t0, t1, ..."""
    lines = []
    for number, shape in enumerate(shapes):
        dims = " ".join(f"dim: {length}" for length in shape)
        shape_text = f"input_param {{ shape {{ {dims} }} }}"
        lines.append(f'layer {{ name: "b{number}" type: "Input" top: "b{number}" {shape_text} }}')
    bottoms = " ".join(f'bottom: "b{number}"' for number in range(len(shapes)))
    made = " ".join(f'top: "t{number}"' for number in range(tops))
    lines.append(f'layer {{ name: "l" {bottoms} {made} {layer} }}')
    return "\n".join(lines)


def read(layer: str, shapes: Sequence[Shape], tops: int = 1, phase: str = "TEST") -> tuple[NetSpec, NetShapes]:
    """The net around a layer, and its shapes."""
    net = build_net(parse(net_text(layer, shapes, tops), "net.prototxt"), NetState(phase))  # type: ignore[arg-type]
    return net, infer_shapes(net, {})


def shapes_of(layer: str, *shapes: Shape, tops: int = 1) -> LayerShapes:
    """What the shape rule says of a layer."""
    return read(layer, shapes, tops)[1].layers[-1]


def complaint(layer: str, *shapes: Shape, tops: int = 1, run: bool = False) -> str:
    """The message of the error that a layer is refused with, without its place.

    With ``run`` the shapes are right and it is the emitter that refuses.
    """
    with pytest.raises(NetError) as caught:
        _lower(layer, shapes, tops, run=run)
    assert caught.value.layer == "l"
    assert caught.value.line == len(shapes) + 1
    return re.sub(r"^net\.prototxt:\d+:\d+: layer 'l': ", "", str(caught.value))


def _lower(layer: str, shapes: Sequence[Shape], tops: int, *, run: bool) -> None:
    net, inferred = read(layer, shapes, tops)
    if run:
        build_layer(net, inferred, tuple(np.zeros(shape, np.float32) for shape in inferred.layers[-1].blobs))


def build_layer(
    net: NetSpec, shapes: NetShapes, blobs: Arrays, seed: int = 0, arithmetic: Arithmetic = Arithmetic.FLOAT32
) -> BuiltNet:
    """Lower the net around a layer."""
    weights = [() for _ in net.layers[:-1]] + [blobs]
    outputs = [net.finals[top] for top in net.layers[-1].tops]
    return build(net, shapes, weights, outputs=outputs, simulation=Simulation(seed=seed, arithmetic=arithmetic))


def run_model(built: BuiltNet, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a lowered net on one thread, in the operations that the commands run it in."""
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    session = Session(steady(model, double=built.double).SerializeToString(), threads=1)
    fetches = list(built.fetches.values())
    results = session.run({built.inputs[blob]: feeds[blob] for blob in built.inputs}, fetches)
    return [results[name] for name in fetches]


def bottoms_of(case: Case) -> Arrays:
    """The case's bottoms, filled from the case's name."""
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))
    return tuple(
        rng.standard_normal(item, dtype=np.float32) if isinstance(item, tuple) else np.asarray(item, np.float32)
        for item in case.inputs
    )


def blobs_of(case: Case, shapes: LayerShapes) -> Arrays:
    """The case's weights, or random ones."""
    if case.blobs is not None:
        assert [blob.shape for blob in case.blobs] == list(shapes.blobs)
        return case.blobs
    rng = np.random.default_rng(zlib.crc32(case.id.encode()) + 1)
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes.blobs)


def run_case(
    case: Case, seed: int = 0, arithmetic: Arithmetic = Arithmetic.FLOAT32
) -> tuple[list[Array], Arrays, Arrays]:
    """The tops of a case, its bottoms and its blobs."""
    bottoms = bottoms_of(case)
    net, shapes = read(case.layer, [bottom.shape for bottom in bottoms], case.tops, case.phase)
    blobs = blobs_of(case, shapes.layers[-1])
    built = build_layer(net, shapes, blobs, seed, arithmetic)
    feeds = {f"b{number}": bottom for number, bottom in enumerate(bottoms)}
    return run_model(built, feeds), bottoms, blobs


def check(case: Case) -> None:
    """Run a case and compare shapes with the shape rule, values with the reference."""
    tops, bottoms, blobs = run_case(case)
    expected = case.expected(bottoms, blobs)
    if isinstance(expected, np.ndarray | np.generic | float):
        expected = [np.asarray(expected)]
    declared = shapes_of(case.layer, *(bottom.shape for bottom in bottoms), tops=case.tops).outputs
    assert len(tops) == len(expected) == len(declared)
    for top, wanted, shape in zip(tops, expected, declared, strict=True):
        assert top.shape == shape
        assert_close(top, wanted, case.tolerance)
    check_double(case)


def check_double(case: Case) -> None:
    """Run a case in float64: nothing is float32 on the way, and the tolerance would not let it pass."""
    net, inferred = read(case.layer, [bottom.shape for bottom in bottoms_of(case)], case.tops, case.phase)
    built = build_layer(net, inferred, blobs_of(case, inferred.layers[-1]), arithmetic=Arithmetic.FLOAT64)
    assert_no_float32(built.model.graph)
    tops, bottoms, blobs = run_case(case, arithmetic=Arithmetic.FLOAT64)
    exact = (tuple(array.astype(np.float64) for array in arrays) for arrays in (bottoms, blobs))
    expected = case.expected(*exact)  # type: ignore[arg-type]
    if isinstance(expected, np.ndarray | np.generic | float):
        expected = [np.asarray(expected)]
    for top, wanted in zip(tops, expected, strict=True):
        assert_close(top, wanted, case.double, np.float64)


def assert_no_float32(graph: onnx.GraphProto) -> None:
    """No input, constant, cast or subgraph of a model is float32."""
    single = onnx.TensorProto.FLOAT
    assert single not in [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert single not in [tensor.data_type for tensor in graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            assert attribute.name not in ("to", "dtype") or attribute.i != single
            assert attribute.type != onnx.AttributeProto.TENSOR or attribute.t.data_type != single
            if attribute.type == onnx.AttributeProto.GRAPH:
                assert_no_float32(attribute.g)


def assert_close(actual: Array, wanted: Array, tolerance: float, dtype: type = np.float32) -> None:
    """Compare shapes, and values relative to the largest finite one."""
    assert actual.shape == np.shape(wanted)
    assert actual.dtype == dtype
    scale = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
    np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=tolerance * scale)


def check_free_batch(case: Case, batch: int) -> None:
    """Lower a case for its own batch, run the same model on another one and compare with the reference.

    Only for layers whose bottoms all have the batch as their first axis.
    """
    bottoms = bottoms_of(case)
    net, shapes = read(case.layer, [bottom.shape for bottom in bottoms], case.tops, case.phase)
    blobs = blobs_of(case, shapes.layers[-1])
    built = build_layer(net, shapes, blobs)
    for value in built.model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    other = tuple(np.resize(bottom[::-1], (batch, *bottom.shape[1:])) for bottom in bottoms)
    tops = run_model(built, {f"b{number}": bottom for number, bottom in enumerate(other)})
    expected = case.expected(other, blobs)
    if isinstance(expected, np.ndarray | np.generic | float):
        expected = [np.asarray(expected)]
    for top, wanted in zip(tops, expected, strict=True):
        assert_close(top, wanted, case.tolerance)
