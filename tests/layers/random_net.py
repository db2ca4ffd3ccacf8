"""Nets drawn at random, layer by layer, together with what each layer must compute.

Nothing here knows the code under test: shapes, weights and values follow from Caffe's formulas in ``reference``. A
layer is drawn on a ``Canvas`` on which all earlier ones have run, so that its parameters can suit what it reads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from tests.layers.reference import Array

T = TypeVar("T")
Shape = tuple[int, ...]

MOST_ELEMENTS = 1500
"""No blob gets larger, as the reference runs in loops."""

LARGEST = 1e4
"""No value gets larger, so that float32 can hold what follows from it."""


@dataclass(frozen=True)
class Result:
    """A blob that a layer makes.

    Attributes:
        value: in float64.
        terms: the size of what was added up to it, to which rounding errors are relative; of the value itself unless
            told otherwise.
    """

    value: Array
    terms: Array | float | None = None

    def allowed(self, tolerance: float) -> Array:
        """The largest error of each element, never less than the least normal float32."""
        terms = np.abs(self.value) if self.terms is None else np.broadcast_to(self.terms, np.shape(self.value))
        return tolerance * np.abs(terms) + float(np.finfo(np.float32).tiny)


Forward = Callable[[Sequence[Array], Sequence[Array]], Sequence[Result]]
"""From a layer's bottoms and blobs, in float64, to its tops."""


@dataclass(frozen=True)
class Blob:
    """What a blob holds at some point of the net.

    Attributes:
        name: in the prototxt.
        value: what the reference makes of the net's inputs.
        below: it holds whole numbers from 0 to less than this; None: any numbers.
        shared: whether another blob lies in the same memory, where Caffe itself would mix them up in place.
    """

    name: str
    value: Array
    below: int | None = None
    shared: bool = False

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def rank(self) -> int:
        return self.value.ndim


@dataclass(frozen=True)
class Step:
    """One layer: its text, its weights and what it computes.

    Attributes:
        name, type, fields: of the layer; ``fields`` is the text of its parameter message.
        bottoms, tops: blob names.
        reads, makes: the numbers of the versions of these blobs, from 0.
        blobs: float32 weights.
        forward: the reference.
    """

    name: str
    type: str
    fields: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    blobs: tuple[Array, ...]
    forward: Forward

    @property
    def text(self) -> str:
        bottoms = "".join(f' bottom: "{name}"' for name in self.bottoms)
        tops = "".join(f' top: "{name}"' for name in self.tops)
        return f'layer {{ name: "{self.name}" type: "{self.type}"{bottoms}{tops} {self.fields} }}'


@dataclass(frozen=True)
class RandomNet:
    """A net, what to feed it, and how to compute it.

    Attributes:
        steps: the layers in order, those of type Input too.
        feeds: a float32 array for each Input layer's blob.
        shapes: for each blob the shape of each of its versions.
    """

    steps: tuple[Step, ...]
    feeds: dict[str, Array]
    shapes: dict[str, list[Shape]]

    @property
    def text(self) -> str:
        return "\n".join(step.text for step in self.steps) + "\n"

    def version(self, blob: str, number: int) -> str:
        """How a version is to be called: the last has the blob's name, others the name of their layer behind it."""
        if number == len(self.shapes[blob]) - 1:
            return blob
        return next(f"{blob}@{s.name}" for s in self.steps if (blob, number) in zip(s.tops, s.makes, strict=True))

    def __repr__(self) -> str:
        return "\n" + self.text


@dataclass
class Canvas:
    """A net in the making.

    Attributes:
        chance, rng: where choices come from, and where weights and data do.
        blobs: what each blob holds now.
        steps, feeds, shapes: as in RandomNet.
        poolings: values and mask of each MAX pooling that makes one, and the size of what it pools.
        done: the number of layers but for inputs.
    """

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    blobs: dict[str, Blob] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, list[Shape]] = field(default_factory=dict)
    poolings: list[tuple[Blob, Blob, Shape]] = field(default_factory=list)
    done: int = 0

    def seed(self, *numbers: int) -> None:
        """Let all choices from here on follow from some numbers."""
        self.chance, self.rng = random.Random(str(numbers)), np.random.default_rng(numbers)

    def integer(self, least: int, most: int) -> int:
        """A number from least to most."""
        return self.chance.randint(least, most)

    def flag(self) -> bool:
        return self.chance.random() < 0.5

    def choose(self, options: Sequence[T]) -> T:
        return self.chance.choice(options)

    def axis(self, least: int, rank: int) -> tuple[int, int]:
        """An axis from ``least`` on, and how the prototxt calls it: by its number, or counted from the end."""
        axis = self.integer(least, rank - 1)
        return axis, axis - rank if self.flag() else axis

    def shape(self, least: int, most: int) -> Shape:
        """A shape with so many axes, batch and channels before images; longer images more often than shorter ones."""
        rank = self.integer(least, most)
        longest = {3: 11, 4: 9, 5: 4}.get(rank, 6)
        sides = (max(self.integer(1, longest), self.integer(1, longest)) for _ in range(rank - 2))
        return (self.integer(1, 3), self.integer(1, 6), *sides)[:rank]

    def weight(self, *shape: int, fan_in: int = 1) -> Array:
        """Random float32 weights."""
        return (self.rng.standard_normal(shape) / math.sqrt(fan_in)).astype(np.float32)

    def feed(self, shape: Shape, below: int | None = None) -> Blob:
        """A new input: normal random numbers, small whole ones, or whole ones from 0 to less than ``below``."""
        if below is not None:
            data = self.rng.integers(0, below, shape)
        elif self.integer(0, 3) == 3:
            data = self.rng.integers(-3, 4, shape)
        else:
            data = self.rng.standard_normal(shape)
        name = f"x{len(self.feeds)}"
        array = np.asarray(data, np.float32)
        self.feeds[name] = array
        dims = " ".join(f"dim: {length}" for length in shape)
        fields = f"input_param {{ shape {{ {dims} }} }}"
        self.shapes[name] = [array.shape]
        self.steps.append(Step(f"in-{name}", "Input", fields, (), (name,), (), (0,), (), lambda *_: ()))
        self.blobs[name] = Blob(name, array.astype(np.float64), below)
        return self.blobs[name]

    def pick(self, suits: Callable[[Blob], bool], fresh: Callable[[], Shape]) -> Blob:
        """An earlier blob that suits, often the latest, or a new input of a fresh shape."""
        options = [blob for blob in self.blobs.values() if suits(blob)]
        if not options or self.integer(0, 5) == 0:
            return self.feed(fresh())
        return options[-1] if self.flag() else self.choose(options)

    def of_rank(self, least: int, most: int) -> Blob:
        """A blob with so many axes."""
        return self.pick(lambda blob: least <= blob.rank <= most, lambda: self.shape(max(1, least), most))

    def like(self, first: Blob) -> Blob:
        """A blob of the same shape, often the same one."""
        return self.pick(lambda blob: blob.shape == first.shape, lambda: first.shape)

    def numbers(self, shape: Shape, below: int) -> Blob:
        """A blob of whole numbers less than ``below``."""
        suits = [b for b in self.blobs.values() if b.shape == shape and b.below is not None and b.below <= below]
        return self.choose(suits) if suits and self.flag() else self.feed(shape, below)

    def add(
        self,
        type_name: str,
        fields: str,
        bottoms: Sequence[Blob],
        forward: Forward,
        *blobs: Array,
        in_place: bool = False,
        below: int | None = None,
        shares: bool = False,
    ) -> tuple[Blob, ...]:
        """Append a layer, unless what it makes is too large in any sense; gives its tops, or nothing.

        With ``in_place`` the layer may, with ``shares`` its tops do write where the bottom lies.
        """
        doubles = [blob.astype(np.float64) for blob in blobs]
        with np.errstate(all="ignore"):
            made = [result.value for result in forward([blob.value for blob in bottoms], doubles)]
        for value in made:
            if value.size > MOST_ELEMENTS or not np.all(np.abs(value) <= LARGEST):
                return ()
        name = f"l{self.done}"
        over = in_place and not bottoms[0].shared and self.integer(0, 2) == 2
        tops = [bottoms[0].name] if over else [f"{name}_{number}" for number in range(len(made))]
        reads = tuple(len(self.shapes[blob.name]) - 1 for blob in bottoms)
        for top, value in zip(tops, made, strict=True):
            self.shapes.setdefault(top, []).append(value.shape)
            self.blobs.pop(top, None)
            self.blobs[top] = Blob(top, value, below, shares)
        if shares:
            self.blobs[bottoms[0].name] = replace(self.blobs[bottoms[0].name], shared=True)
        makes = tuple(len(self.shapes[top]) - 1 for top in tops)
        names = tuple(blob.name for blob in bottoms)
        self.steps.append(Step(name, type_name, fields, names, tuple(tops), reads, makes, blobs, forward))
        self.done += 1
        return tuple(self.blobs[top] for top in tops)

    def net(self) -> RandomNet:
        """What has been drawn."""
        return RandomNet(tuple(self.steps), dict(self.feeds), dict(self.shapes))


Maker = Callable[[Canvas], None]
"""Draws one layer (a pooling that it needs before it, too)."""


def message(name: str, **fields: Any) -> str:
    """The text of a parameter message; a list is a repeated field, what is None is left out."""
    words = []
    for key, value in fields.items():
        items = value if isinstance(value, list | tuple) else [value]
        words += [f"{key}: {str(v).lower() if isinstance(v, bool) else v}" for v in items if v is not None]
    return f"{name} {{ {' '.join(words)} }}" if words else ""


def only(value: Array, terms: Array | float | None = None) -> list[Result]:
    """The tops of a layer that has one."""
    return [Result(np.asarray(value, np.float64), terms)]
