"""RNN and LSTM, unrolled in time."""

from __future__ import annotations

import numpy as np
import onnx

from ristretto.caffe.catalogue.recurrent import RecurrentParams, recurrent_params
from ristretto.graph.registry import LayerContext, emits


class _Unrolled:
    """What RNN and LSTM have in common (recurrent_layer.cpp): the parts of the sum that goes into a step.

    Times are the first axis and stay: a step's values are (1, n, ...).

    Attributes:
        params: the layer's parameters.
        inputs: for each time the weighted input with the bias, and the weighted static input if there is one.
        goes_on: for each time (1, n, 1), 0 where a new sequence begins and 1 where one goes on.
        states: the hidden states before the first time: given, or zero.
    """

    def __init__(self, context: LayerContext) -> None:
        self._context = context
        self.params: RecurrentParams = recurrent_params(context.layer)
        self._times = context.input_shapes[0][0]
        self._blobs = list(context.blobs)
        steps = context.op("Reshape", context.inputs[0], context.nodes.ints([0, 0, -1]))
        weighted = context.op("Add", self.weighted(steps), self.next_blob())
        if self.params.static_input:
            # In Caffe's order of adding, the static part comes last; it is one sum here for all times.
            static = context.op("Flatten", context.inputs[2], axis=1)
            static = context.op("Unsqueeze", self.weighted(static), context.nodes.ints([0]))
            weighted = context.op("Add", weighted, static)
        self.inputs = self.at_times(weighted)
        cont = context.op("Unsqueeze", context.inputs[1], context.nodes.ints([2]))
        self.goes_on = self.at_times(cont)
        self.states = list(context.inputs[2 + self.params.static_input :])
        if not self.states:
            zero = np.zeros((1, 1, self.params.num_output), np.float32)
            self.states = [context.nodes.constant(zero, "state")] * 2

    def next_blob(self, *, transposed: bool = False) -> str:
        """The next of the layer's blobs as a constant."""
        blob = self._blobs.pop(0)
        return self._context.weight(np.ascontiguousarray(blob.T) if transposed else blob)

    def weighted(self, value: str) -> str:
        """A value times the next blob, which is (outputs, inputs)."""
        return self._context.op("MatMul", value, self.next_blob(transposed=True))

    def at_times(self, value: str) -> list[str]:
        """A value cut along the first axis."""
        cuts = self._context.nodes.ints([1] * self._times)
        return self._context.nodes.ops("Split", value, cuts, count=self._times, axis=0)

    def joined(self, values: list[str]) -> str:
        """Undo ``at_times``."""
        return self._context.op("Concat", *values, axis=0)


@emits("RNN")
def rnn(context: LayerContext) -> list[str]:
    """``h = tanh(W_hh h + W_xh x + b_h)``, top ``tanh(W_ho h + b_o)`` (rnn_layer.cpp)."""
    unrolled = _Unrolled(context)
    recurrent = unrolled.next_blob(transposed=True)
    state = unrolled.states[0]
    states = []
    for value, goes_on in zip(unrolled.inputs, unrolled.goes_on, strict=True):
        kept = context.op("MatMul", context.op("Mul", goes_on, state), recurrent)
        state = context.op("Tanh", context.op("Add", kept, value))
        states.append(state)
    output = unrolled.weighted(unrolled.joined(states))
    output = context.op("Tanh", context.op("Add", output, unrolled.next_blob()))
    return [output, state][: 1 + unrolled.params.states]


@emits("LSTM")
def lstm(context: LayerContext) -> list[str]:
    """Gates i, f, o, candidate g; the forget gate is shut where a sequence begins (lstm_unit_layer.cpp)."""
    unrolled = _Unrolled(context)
    recurrent = unrolled.next_blob(transposed=True)
    hidden, cell = unrolled.states
    nonzero = context.op("Cast", context.inputs[1], to=onnx.TensorProto.BOOL)
    nonzero = context.op("Cast", nonzero, to=onnx.TensorProto.FLOAT)
    opens = unrolled.at_times(context.op("Unsqueeze", nonzero, context.nodes.ints([2])))
    parts = context.nodes.ints([unrolled.params.num_output] * 4)
    states = []
    for value, goes_on, gate in zip(unrolled.inputs, unrolled.goes_on, opens, strict=True):
        kept = context.op("MatMul", context.op("Mul", goes_on, hidden), recurrent)
        gates = context.op("Add", kept, value)
        enter, forget, leave, candidate = context.nodes.ops("Split", gates, parts, count=4, axis=2)
        forget = context.op("Mul", context.op("Sigmoid", forget), gate)
        entering = context.op("Mul", context.op("Sigmoid", enter), context.op("Tanh", candidate))
        cell = context.op("Add", context.op("Mul", forget, cell), entering)
        hidden = context.op("Mul", context.op("Sigmoid", leave), context.op("Tanh", cell))
        states.append(hidden)
    return [unrolled.joined(states), hidden, cell][: 1 + unrolled.params.states]
