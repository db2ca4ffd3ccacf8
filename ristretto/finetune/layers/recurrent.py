"""RNN and LSTM, unrolled in time."""

from __future__ import annotations

from ristretto.caffe.catalogue.recurrent import recurrent_params
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.products import linear
from ristretto.finetune.registry import LayerPass, trains


def _steps(given: LayerPass) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The weighted inputs (t, n, rows) with bias and static input, the blobs left, the states before (n, outputs)."""
    params = recurrent_params(given.layer)
    blobs = list(given.blobs)
    x = given.inputs[0]
    weighted = linear(x.reshape(*x.shape[:2], -1), blobs.pop(0), blobs.pop(0))
    if params.static_input:
        weighted = weighted + linear(given.inputs[2].flatten(1), blobs.pop(0))
    states = [state[0] for state in given.inputs[2 + params.static_input :]]
    return weighted, blobs, states or [x.new_zeros(x.shape[1], params.num_output)] * 2


@trains("RNN")
def rnn(given: LayerPass) -> list[Tensor]:
    """``h = tanh(W_hh h + W_xh x + b_h)``, top ``tanh(W_ho h + b_o)`` (rnn_layer.cpp)."""
    weighted, (recurrent, weight, bias), states = _steps(given)
    state, made = states[0], []
    for time, value in enumerate(weighted):
        kept = given.inputs[1][time].unsqueeze(1) * state
        state = torch.tanh(linear(kept, recurrent) + value)
        made.append(state)
    output = torch.tanh(linear(torch.stack(made), weight, bias))
    return [output, state.unsqueeze(0)][: len(given.layer.tops)]


@trains("LSTM")
def lstm(given: LayerPass) -> list[Tensor]:
    """Gates i, f, o, candidate g; the forget gate is shut where a sequence begins (lstm_unit_layer.cpp)."""
    weighted, (recurrent,), (hidden, cell) = _steps(given)
    made = []
    for time, value in enumerate(weighted):
        cont = given.inputs[1][time].unsqueeze(1)
        gates = linear(cont * hidden, recurrent) + value
        enter, forget, leave, candidate = gates.chunk(4, 1)
        opened = torch.sigmoid(forget) * (cont != 0).to(cell.dtype)
        cell = opened * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        made.append(hidden)
    return [torch.stack(made), hidden.unsqueeze(0), cell.unsqueeze(0)][: len(given.layer.tops)]
