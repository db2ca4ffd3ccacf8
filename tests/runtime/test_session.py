"""What onnxruntime says of a run that fails is one line of ours, with the layer."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from ristretto.errors import NetError
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
