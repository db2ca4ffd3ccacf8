"""What happens during a job, as values that a listener may print, count or ignore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """The content of one output blob.

    Attributes:
        blob: its name.
        values: its elements, flat.
        loss_weight: its weight in the net's loss; 0 for a blob that is no loss.
    """

    blob: str
    values: tuple[float, ...]
    loss_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceChosen:
    """Where the job runs.

    Attributes:
        asked: what --gpu was given, or "".
        device: the GPU; None for the CPU.
        reason: why it is the CPU all the same.
    """

    asked: str = ""
    device: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PassStarted:
    """A pass over ``batches`` batches begins."""

    purpose: str
    batches: int


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch has been run."""

    index: int
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class PassDone:
    """A pass is over; the outputs are means over its images."""

    purpose: str
    loss: float
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class LengthsChosen:
    """The integer lengths of one layer."""

    layer: str
    input: int
    output: int
    params: int


@dataclass(frozen=True, slots=True)
class Folded:
    """Layers were taken into the layers before them.

    Attributes:
        chains: for each layer that stays its name, and the names of those that are gone.
        declined: names of layers that could not be folded, with the reasons.
    """

    chains: tuple[tuple[str, tuple[str, ...]], ...]
    declined: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Equalized:
    """Channels were scaled by powers of two.

    Attributes:
        pairs: for each layer that could be, its name, the names of those that read it, and how many channels were.
    """

    pairs: tuple[tuple[str, tuple[str, ...], int], ...]


@dataclass(frozen=True, slots=True)
class Widened:
    """All groups together missed the margin, so that one group gets a wider width."""

    group: str
    bw: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pass ended early: its candidate misses the margin; ``score`` is estimated on ``images`` of ``of`` images."""

    purpose: str
    images: int
    of: int
    score: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """The job goes on from the scores that a stopped run has left in a file. No report tells of it."""

    scores: int
    file: str


@dataclass(frozen=True, slots=True)
class HarmsMeasured:
    """What narrowing a site does to the net's output is known, for ``widths`` widths of each, on ``images`` images."""

    sites: int
    widths: int
    images: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know before trusting the result."""

    text: str


Event = (
    DeviceChosen
    | Dropped
    | Equalized
    | PassStarted
    | BatchDone
    | PassDone
    | LengthsChosen
    | Folded
    | HarmsMeasured
    | Resumed
    | Widened
    | Warned
)
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener of library code: hears everything, says nothing."""
