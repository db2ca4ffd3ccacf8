"""Numbers that are none: NaN and infinity in weights and in what a net makes, named by where they come from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.weights import Weights
from ristretto.errors import DataError, NetError, RistrettoError, WeightsError
from ristretto.graph.build import Simulation
from ristretto.pipeline.feed import Batch, Feed
from ristretto.pipeline.pieces import in_pieces
from ristretto.pipeline.runner import Runner
from ristretto.report.model import Scored

Array = NDArray[np.float32]

_log = logging.getLogger(__name__)

_CURE = "check weights, mean and scale; ristretto doctor looks at all of them"


@dataclass(frozen=True, slots=True)
class BrokenBlob:
    """A blob of weights that holds NaN or infinity.

    Attributes:
        layer: whose it is.
        blob: its number, 0 for the weights, 1 for the bias.
        nan, infinite: how many of its values are.
        size: how many values it has.
        files: the weights files.
    """

    layer: str
    blob: int
    nan: int
    infinite: int
    size: int
    files: str

    @property
    def what(self) -> str:
        """The fault, a sentence without a full stop."""
        return f"{_counted(self.nan, self.infinite)} of the {self.size} values of blob {self.blob}"


def _counted(nan: int, infinite: int) -> str:
    """How many values are none, as the start of a sentence."""
    if not infinite:
        return f"NaN in {nan}"
    return f"infinity in {infinite}" if not nan else f"NaN in {nan} and infinity in {infinite}"


def all_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite; reads the array once in all but strange cases."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum that is too large for its type is no fault of the values.
        return bool(np.isfinite(np.sum(array))) or bool(np.isfinite(array).all())


def broken_blobs(net: NetSpec, weights: Weights | None) -> Iterator[BrokenBlob]:
    """The blobs of a net's layers that hold NaN or infinity, in the net's order."""
    if weights is not None:
        for name in dict.fromkeys(layer.name for layer in net.layers):
            yield from broken_in(name, weights)


def broken_in(layer: str, weights: Weights) -> Iterator[BrokenBlob]:
    """The blobs of a layer that hold NaN or infinity."""
    files = ", ".join(map(str, weights.files))
    for number, blob in enumerate(weights.get(layer) or ()):
        if not all_finite(blob):
            nan, infinite = int(np.isnan(blob).sum()), int(np.isinf(blob).sum())
            yield BrokenBlob(layer, number, nan, infinite, blob.size, files)


def check_weights(net: NetSpec, weights: Weights | None) -> None:
    """Refuse weights that hold NaN or infinity: no format holds them, and a score with them says nothing.

    Raises:
        WeightsError: there are some; the error names the first blob and says how many more there are.
    """
    broken = list(broken_blobs(net, weights))
    if broken:
        more = f", as in {len(broken) - 1} more" if len(broken) > 1 else ""
        cure = "did the training diverge? take an earlier snapshot"
        raise WeightsError(f"{broken[0].what}{more}", file=broken[0].files, layer=broken[0].layer, cure=cure)


def weight_warnings(net: NetSpec, weights: Weights | None) -> list[str]:
    """The same as a warning for each blob, for what only looks at values."""
    return [f"layer '{blob.layer}': {blob.what}" for blob in broken_blobs(net, weights)]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where NaN or infinity arises first.

    Attributes:
        layer: that makes it of numbers.
        kind: "NaN" or "infinity".
        batch: number of the batch, from 0.
        image: number of the image in it, or None where the value has no row for each image.
        values: all values that are NaN or infinite then.
    """

    layer: LayerSpec
    kind: str
    batch: int
    image: int | None
    values: frozenset[str]

    @property
    def where(self) -> str:
        """The image or the batch, for a sentence."""
        return f"batch {self.batch}" if self.image is None else f"image {self.image} of batch {self.batch}"

    def hidden(self, where: str) -> str:
        """What the layer does, where no output shows it."""
        return f"makes {self.kind} of numbers ({where}), which no output shows"


def spelled_score(score: float) -> str:
    """A score that is no number, in words."""
    return "NaN" if math.isnan(score) else "infinite"


class Watch:
    """A net whose values are all looked at."""

    def __init__(self, net: NetSpec, weights: Weights | None, simulation: Simulation, threads: int) -> None:
        """Take the net and how it is run; nothing is built yet."""
        self._net = net
        self._made = {value: layer for layer in net.layers if layer.inputs for value in layer.outputs}
        self._runner = Runner(net, weights, list(self._made), (), simulation, threads)

    def origin(self, batch: Batch, number: int) -> Origin | None:
        """The first layer that makes NaN or infinity of the numbers of a batch; None where all is finite.

        Args:
            batch: what is fed.
            number: that of the batch.
        """
        first = 0
        for piece in in_pieces(self._net, batch):
            images = len(next(iter(piece.values()), ()))
            values, _ = self._runner.run(piece)
            broken = frozenset(value for value in self._made if not all_finite(values[value]))
            for value, layer in self._made.items():
                if value in broken:
                    finite = np.isfinite(values[value])
                    kind = "NaN" if np.isnan(values[value]).any() else "infinity"
                    by_image = finite.ndim > 0 and len(finite) == images
                    row = int(np.argmin(finite.reshape(images, -1).all(axis=1))) if by_image else None
                    return Origin(layer, kind, number, None if row is None else first + row, broken)
            first += images
        return None


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass that was run, so that one of its batches can be looked at again.

    Attributes:
        net, weights: what was run.
        simulation: number formats and rounding.
        feed: its data.
        batches: so many batches, or with None every image once.
        threads: threads per run.
    """

    net: NetSpec
    weights: Weights | None
    simulation: Simulation
    feed: Feed
    batches: int | None
    threads: int

    def origin(self, number: int) -> Origin | None:
        """The first layer that makes NaN or infinity of the numbers of a batch; None where all is finite."""
        batch = next(self.feed.section(self.batches, number, 1, self.feed.picker(self.batches)), None)
        if batch is None:
            return None
        return Watch(self.net, self.weights, self.simulation, self.threads).origin(batch, number)

    def refuse(self) -> None:
        """Find the first batch in which a layer makes NaN or infinity.

        Raises:
            NetError: there is one; the error names the layer, and an image.
        """
        for number in range(self.feed.batches_of(self.batches) or 0):
            origin = self.origin(number)
            if origin is not None:
                where = f"{origin.where}, phase {self.net.phase}"
                what = f"makes {origin.kind} of numbers ({where}): no format has a range for that"
                view = origin.layer.view
                raise NetError(what, file=self.net.file, line=view.line, layer=origin.layer.name, cure=_CURE)

    def check(self, blob: str, scored: Scored) -> None:
        """Refuse a score that is not a number.

        Args:
            blob: what holds the score.
            scored: the outcome of the pass.

        Raises:
            NetError: a layer makes NaN or infinity; the error names the first one, and an image.
            DataError: the score is not a number for another reason.
        """
        if math.isfinite(scored.score):
            return
        spelled = spelled_score(scored.score)
        origin = None if scored.broken is None else self.origin(scored.broken)
        if origin is None:
            raise DataError(f"the score '{blob}' is {spelled}, not a number", file=self.net.file, cure=_CURE)
        what = f"makes {origin.kind} of numbers ({origin.where}), so the score '{blob}' is {spelled}"
        raise NetError(what, file=self.net.file, line=origin.layer.view.line, layer=origin.layer.name, cure=_CURE)

    def warnings(self, scored: Scored) -> list[str]:
        """A warning where an output is NaN or infinite, with the layer that makes it so."""
        names = [blob for blob, values in scored.outputs.items() if not all(map(math.isfinite, values))]
        broken = scored.answers.broken if scored.answers is not None else 0
        origin = None if scored.broken is None else self.origin(scored.broken)
        if not names and origin is None:
            return []
        where = "" if origin is None else f": layer '{origin.layer.name}' makes {origin.kind} first ({origin.where})"
        count = f"; {broken} of {scored.images} images give NaN" if broken else ""
        return [f"output {', '.join(map(repr, names)) or 'of a batch'} is NaN or infinite{where}{count}"]

    def hidden(self, scored: Scored) -> list[str]:
        """A warning where all outputs are finite and a layer makes NaN or infinity all the same, in the first batch."""
        if scored.broken is not None:
            return []
        try:
            origin = self.origin(0)
        except RistrettoError as error:  # a net that ran as a whole may not run in pieces
            _log.debug("values inside the net were not looked at: %s", error)
            return []
        return [] if origin is None else [f"layer '{origin.layer.name}' {origin.hidden(origin.where)}"]
