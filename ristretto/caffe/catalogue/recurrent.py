"""RNN and LSTM: parameters, shapes, weight shapes (BVLC/caffe recurrent_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ristretto.caffe.catalogue.axes import require_rank
from ristretto.caffe.catalogue.registry import LayerShapes, shape_rule
from ristretto.caffe.limits import STEPS, limit, to_raise
from ristretto.caffe.netspec import LayerSpec, Shape

_STATES = {"RNN": 1, "LSTM": 2}
"""Blobs of hidden state: h, and for LSTM also c."""


@dataclass(frozen=True, slots=True)
class RecurrentParams:
    """A RecurrentParameter for a given layer (defaults: caffe.proto, RecurrentParameter).

    Attributes:
        num_output: length of the hidden state.
        gates: rows of the input's weights in units of num_output.
        static_input: whether a third bottom is the same at all times.
        states: number of hidden states that come in as bottoms and go out as tops.
    """

    num_output: int
    gates: int
    static_input: bool
    states: int


def recurrent_params(layer: LayerSpec) -> RecurrentParams:
    """Read a layer's recurrent_param.

    Raises:
        NetError: num_output is missing, or the number of bottoms or tops does not suit the parameters.
    """
    view = layer.view.child("recurrent_param")
    num_output = view.integer("num_output")
    if num_output < 1:
        what = "num_output must be at least 1"
        raise view.error(what, cure="add num_output", field="num_output")
    states = _STATES[layer.type] if view.flag("expose_hidden") else 0
    if len(layer.bottoms) not in (2 + states, 3 + states) or len(layer.tops) != 1 + states:
        what = (
            f"with {states} exposed hidden states the layer takes {2 + states} or {3 + states} bottoms and "
            f"{1 + states} tops, {len(layer.bottoms)} and {len(layer.tops)} are given"
        )
        raise layer.view.error(what, cure="check expose_hidden", field="bottom")
    gates = 4 if layer.type == "LSTM" else 1
    return RecurrentParams(num_output, gates, len(layer.bottoms) == 3 + states, states)


@shape_rule("RNN", "LSTM", bottoms=(2, 5), tops=(1, 3))
def recurrent_shapes(layer: LayerSpec, inputs: tuple[Shape, ...]) -> LayerShapes:
    """Bottoms (t, n, ...) and (t, n), tops (t, n, num_output) and the exposed states (1, n, num_output).

    Blobs, in the order of the unrolled net (rnn_layer.cpp, lstm_layer.cpp): weights and bias of the input,
    weights of the static input, weights of the hidden state, for an RNN weights and bias of the output.
    """
    params = recurrent_params(layer)
    x, cont = inputs[:2]
    require_rank(layer, x, 3)
    if cont != x[:2]:
        what = f"the second bottom must be of shape {x[:2]} to go with {x}, it is {cont}"
        raise layer.view.error(what, field="bottom")
    times, streams = cont
    if times > limit(STEPS):
        what = f"a sequence of {times} steps is longer than {limit(STEPS)}"
        raise layer.view.error(what, field="bottom", cure=to_raise(STEPS))
    rows = params.gates * params.num_output
    state = (1, streams, params.num_output)
    static = 0
    if params.static_input:
        require_rank(layer, inputs[2], 2)
        static = math.prod(inputs[2][1:])
        if inputs[2][0] != streams:
            what = f"the static input of shape {inputs[2]} is not one item for each of the {streams} streams"
            raise layer.view.error(what, field="bottom")
    for shape in inputs[2 + params.static_input :]:
        if shape != state:
            what = f"a hidden state must be of shape {state}, found {shape}"
            raise layer.view.error(what, field="bottom")
    features = math.prod(x[2:])
    blobs: list[Shape] = [(rows, features), (rows,)]
    if params.static_input:
        blobs.append((rows, static))
    blobs.append((rows, params.num_output))
    if layer.type == "RNN":
        blobs += [(params.num_output, params.num_output), (params.num_output,)]
    steps = times * streams
    macs = steps * sum(math.prod(blob) for blob in blobs if len(blob) == 2)
    if params.static_input:
        macs -= (steps - streams) * rows * static
    outputs = ((times, streams, params.num_output), *(state,) * params.states)
    return LayerShapes(outputs, tuple(blobs), macs)
