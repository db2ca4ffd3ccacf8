"""How Caffe shares a blob among its readers: Split layers, put in before a net is run (insert_splits.cpp).

Nothing here inserts them: a value may be read by any number of layers. What the splits do to memory, namely that all
readers of a blob share it, is what ``graph.build`` relies on when a quantized layer rounds its bottom in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Wiring:
    """A layer as far as its wires go.

    Attributes:
        name, type: of the layer.
        bottoms, tops: blob names.
        loss_weights: as given, one per top at most.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    loss_weights: tuple[float, ...] = ()


def insert_splits(layers: Sequence[Wiring]) -> tuple[Wiring, ...]:
    """The layers as Caffe runs them: a Split after every top with more than one use.

    A use is a bottom that reads the top, or a loss weight other than 0, which moves to the Split.

    Raises:
        KeyError: a bottom is made by no earlier layer.
    """
    makers: dict[str, tuple[int, int]] = {}
    sources: dict[tuple[int, int], tuple[int, int]] = {}
    uses: dict[tuple[int, int], int] = {}
    losses: dict[tuple[int, int], float] = {}
    for number, layer in enumerate(layers):
        for position, blob in enumerate(layer.bottoms):
            sources[number, position] = makers[blob]
            uses[makers[blob]] = uses.get(makers[blob], 0) + 1
        for position, blob in enumerate(layer.tops):
            makers[blob] = (number, position)
        for position, weight in enumerate(layer.loss_weights[: len(layer.tops)]):
            if weight:
                losses[number, position] = weight
                uses[number, position] = uses.get((number, position), 0) + 1
    result: list[Wiring] = []
    given_out: dict[tuple[int, int], int] = {}
    for number, layer in enumerate(layers):
        bottoms = []
        for position, blob in enumerate(layer.bottoms):
            source = sources[number, position]
            if uses[source] > 1:
                count = given_out.get(source, 0)
                given_out[source] = count + 1
                blob = f"{_split_name(layers[source[0]].name, blob, source[1])}_{count}"
            bottoms.append(blob)
        split = [position for position in range(len(layer.tops)) if uses.get((number, position), 0) > 1]
        moved = [position for position in split if (number, position) in losses]
        given_out.update({(number, position): 1 for position in moved})
        result.append(replace(layer, bottoms=tuple(bottoms), loss_weights=() if moved else layer.loss_weights))
        result += [
            _split(layer, position, uses[number, position], losses.get((number, position), 0.0)) for position in split
        ]
    return tuple(result)


def _split_name(layer: str, blob: str, position: int) -> str:
    return f"{blob}_{layer}_{position}_split"


def _split(layer: Wiring, position: int, count: int, loss: float) -> Wiring:
    name = _split_name(layer.name, layer.tops[position], position)
    weights = (loss, *[0.0] * (count - 1)) if loss else ()
    tops = tuple(f"{name}_{number}" for number in range(count))
    return Wiring(name, "Split", (layer.tops[position],), tops, weights)
