"""What onnxruntime says of a run that fails is one line of ours, with the layer."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from ristretto.errors import NetError, UsageError
from ristretto.graph.nodes import OPSET, NodeList
from ristretto.runtime.session import Session


def test_a_run_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    nodes = NodeList()
    nodes.enter("emb")
    rows = nodes.op("Gather", nodes.floats([1.0, 2.0]), nodes.op("Cast", "x", to=TensorProto.INT64))
    float_vector = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", rows)]
    graph = helper.make_graph(nodes.nodes, "net", float_vector[:1], float_vector[1:], nodes.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    session = Session(model.SerializeToString())
    np.testing.assert_array_equal(session.run({"x": np.float32([1, 0])}, [rows])[rows], [2, 1])
    with pytest.raises(NetError) as raised:
        session.run({"x": np.float32([2])}, [rows])
    assert raised.value.layer == "emb"
    assert str(raised.value).startswith("layer 'emb': onnxruntime cannot run the net: ")
    assert "\n" not in str(raised.value)
    assert "[ONNXRuntimeError]" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def doubling() -> bytes:
    vectors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "net", vectors[:1], vectors[1:])
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    ).SerializeToString()
    return data


@pytest.mark.parametrize(("environment", "asked", "taken"), [(None, 0, 0), ("3", 0, 3), ("3", 2, 2), ("0", 0, 0)])
def test_the_environment_says_how_many_threads_where_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, asked: int, taken: int
) -> None:
    monkeypatch.delenv("RISTRETTO_THREADS", raising=False)
    if environment is not None:
        monkeypatch.setenv("RISTRETTO_THREADS", environment)
    session = Session(doubling(), threads=asked)
    assert session._session.get_session_options().intra_op_num_threads == taken
    np.testing.assert_array_equal(session.run({"x": np.float32([1, 2])}, ["y"])["y"], [2, 4])


@pytest.mark.parametrize("value", ["", "-1", "two", "1.5", "99999", "\u0663"])
def test_a_number_of_threads_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RISTRETTO_THREADS", value)
    with pytest.raises(UsageError, match=r"RISTRETTO_THREADS=.*: expected a number of threads; set it to 1 or more"):
        Session(doubling())
