"""RNN and LSTM against loops over time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers import reference
from tests.layers.harness import Arrays, Case, cases, check, complaint, layer_text, shapes_of
from tests.layers.reference import Array


def recurrent(kind: str, fields: str = "") -> str:
    return layer_text(kind, "recurrent_param", f"num_output: 3 {fields}")


def states(bottoms: Arrays, number: int, *, static: bool) -> tuple[Array | None, list[Array]]:
    """The static input and the hidden states among the bottoms; zeros where they are not given."""
    rest = list(bottoms[2:])
    still = rest.pop(0) if static else None
    given = [state[0].astype(np.float64) for state in rest]
    return still, given or [np.zeros((bottoms[0].shape[1], 3))] * number


def rnn(*, static: bool = False):
    def expected(bottoms: Arrays, blobs: Arrays) -> list[Array]:
        still, (state,) = states(bottoms, 1, static=static)
        top, last = reference.rnn(bottoms[0], bottoms[1], blobs, still, state)
        return [top, last[None]][: 1 + (len(bottoms) > 2 + static)]

    return expected


def lstm(*, static: bool = False):
    def expected(bottoms: Arrays, blobs: Arrays) -> list[Array]:
        still, (state, cell) = states(bottoms, 2, static=static)
        top, *last = reference.lstm(bottoms[0], bottoms[1], blobs, still, state, cell)
        return [top, *(value[None] for value in last)][: 1 + 2 * (len(bottoms) > 2 + static)]

    return expected


TIMES, STREAMS = 5, 2
X = (TIMES, STREAMS, 4)
CONT = np.array([[0, 1], [1, 1], [1, 0], [0, 1], [1, 1]])
STATE = (1, STREAMS, 3)
EXPOSED = "expose_hidden: true"


@cases(
    Case("rnn", recurrent("RNN"), rnn(), (X, CONT)),
    Case("rnn-one-time", recurrent("RNN"), rnn(), ((1, 2, 4), CONT[:1])),
    Case("rnn-images", recurrent("RNN"), rnn(), ((TIMES, STREAMS, 2, 3), CONT)),
    Case("rnn-static", recurrent("RNN"), rnn(static=True), (X, CONT, (STREAMS, 2, 3))),
    Case("rnn-exposed", recurrent("RNN", EXPOSED), rnn(), (X, CONT, STATE), tops=2),
    Case("rnn-partial-cont", recurrent("RNN"), rnn(), (X, CONT / 2)),
    Case("lstm", recurrent("LSTM"), lstm(), (X, CONT)),
    Case("lstm-goes-on", recurrent("LSTM"), lstm(), (X, np.ones((TIMES, STREAMS)))),
    Case("lstm-images", recurrent("LSTM"), lstm(), ((TIMES, STREAMS, 2, 3), CONT)),
    Case("lstm-static", recurrent("LSTM"), lstm(static=True), (X, CONT, (STREAMS, 2))),
    Case("lstm-exposed", recurrent("LSTM", EXPOSED), lstm(), (X, CONT, STATE, STATE), tops=3),
    Case(
        "lstm-static-exposed",
        recurrent("LSTM", EXPOSED),
        lstm(static=True),
        (X, CONT, (STREAMS, 2), STATE, STATE),
        tops=3,
    ),
    Case("lstm-partial-cont", recurrent("LSTM"), lstm(), (X, CONT / 2)),
)
def test_values(case: Case) -> None:
    check(case)


def test_blobs_and_macs() -> None:
    shapes = shapes_of(recurrent("RNN"), (5, 2, 4), (5, 2), (2, 6))
    assert shapes.blobs == ((3, 4), (3,), (3, 6), (3, 3), (3, 3), (3,))
    assert shapes.macs == 5 * 2 * (3 * 4 + 3 * 3 + 3 * 3) + 2 * 3 * 6
    shapes = shapes_of(recurrent("LSTM"), (5, 2, 4), (5, 2))
    assert shapes.blobs == ((12, 4), (12,), (12, 3))


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (
            recurrent("LSTM", EXPOSED),
            [(5, 2, 4), (5, 2)],
            "with 2 exposed hidden states the layer takes 4 or 5 bottoms and 3 tops, 2 and 1 are given; "
            "check expose_hidden",
        ),
        (
            recurrent("LSTM"),
            [(5, 2, 4), (5, 3)],
            "the second bottom must be of shape (5, 2) to go with (5, 2, 4), it is (5, 3)",
        ),
        (
            recurrent("RNN"),
            [(5, 2, 4), (5, 2), (3, 4)],
            "the static input of shape (3, 4) is not one item for each of the 2 streams",
        ),
        (
            layer_text("RNN", "recurrent_param", ""),
            [(5, 2, 4), (5, 2)],
            "num_output must be at least 1; add num_output",
        ),
    ],
)
def test_complaints(layer: str, shapes: list[tuple[int, ...]], message: str) -> None:
    assert complaint(layer, *shapes) == message
