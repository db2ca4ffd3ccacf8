"""What the float layers before the first fully connected one make of each batch: made once, for all FC candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.decide.plan import QuantPlan, group_of
from ristretto.graph.build import live_values
from ristretto.pipeline.runner import Halfway

PREFIX_BYTES = 1 << 28
"""How much is kept; where it is not enough nothing is."""

Array = NDArray[np.float32]


@dataclass
class Prefix:
    """The batches of a pass, stopped before a layer.

    Attributes:
        position: number of the layer.
        values: what later layers read, or the pass wants.
        batches: the batches, once a whole pass has been kept.
    """

    position: int
    values: tuple[str, ...]
    batches: tuple[Halfway, ...] = ()
    _kept: list[Halfway] = field(default_factory=list)
    _bytes: int = 0

    def add(self, fed: Mapping[str, Shape], values: Mapping[str, Array]) -> None:
        """Keep a batch of the float net, given the shapes of what was fed to it."""
        kept = {value: values[value] for value in self.values}
        self._bytes += sum(array.nbytes for array in kept.values())
        if self._bytes > PREFIX_BYTES:
            self._kept.clear()
        else:
            self._kept.append(Halfway(dict(fed), kept))

    def finish(self) -> None:
        """The pass is over."""
        if self._bytes <= PREFIX_BYTES:
            self.batches = tuple(self._kept)

    def serves(self, net: NetSpec, plan: QuantPlan) -> bool:
        """Whether a net with a plan's formats, and float elsewhere, can begin with what is kept."""
        return bool(self.batches) and self.would_serve(net, plan)

    def would_serve(self, net: NetSpec, plan: QuantPlan) -> bool:
        """Whether it could, if a pass had been kept."""
        first = next((number for number, layer in enumerate(net.layers) if layer.name in plan.layers), None)
        return first is not None and first >= self.position


def prefix_of(net: NetSpec, wanted: tuple[str, ...]) -> Prefix | None:
    """A prefix of a net whose FC layers follow convolutions; None of others.

    Args:
        net: the net.
        wanted: the values that a pass returns.
    """
    groups = [group_of(layer.type) for layer in net.layers]
    if "fc" not in groups or "conv" not in groups[: groups.index("fc")]:
        return None
    position = groups.index("fc")
    return Prefix(position, live_values(net, position, wanted))
