"""What a job told while it ran, kept for its report: all that is logged is there too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ristretto.report.events import (
    BatchDone,
    DeviceChosen,
    Dropped,
    Equalized,
    Event,
    Folded,
    HarmsMeasured,
    Listener,
    PassDone,
    PassStarted,
    Warned,
    Widened,
    silent,
)


@dataclass
class Recorder:
    """A listener that keeps what it hears and passes it on."""

    then: Listener = silent
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        self.events.append(event)
        self.then(event)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far, each once."""
        return tuple(dict.fromkeys(event.text for event in self.events if isinstance(event, Warned)))


def record_to_json(events: Iterable[Event]) -> dict[str, Any]:
    """What was logged and is nowhere else in a report, as JSON values (schema: docs/report.md)."""
    kept = tuple(events)
    record: dict[str, Any] = {}
    for event in kept:
        match event:
            case DeviceChosen(asked, device, reason):
                record["device"] = {"asked": asked, "gpu": device, "reason": reason}
            case Folded(chains, declined):
                record["folded"] = {
                    "into": {into: list(layers) for into, layers in chains},
                    "kept": dict(declined),
                }
            case Equalized(pairs):
                record["equalized"] = [
                    {"layer": layer, "readers": list(readers), "channels": channels}
                    for layer, readers, channels in pairs
                ]
            case HarmsMeasured(sites, widths, images):
                record["harms"] = {"sites": sites, "widths": widths, "images": images}
            case Widened(group, bw):
                record.setdefault("widened", []).append({"group": group, "bw": bw})
    record["passes"] = list(_passes(kept))
    return record


def _passes(events: tuple[Event, ...]) -> Iterator[dict[str, Any]]:
    """Each pass with what every batch gave; one that ended early says after how many images."""
    batches: dict[str, list[Any]] = {}
    current: dict[str, Any] = {}
    for event in events:
        match event:
            case PassStarted(purpose, announced):
                batches, current = {}, {"purpose": purpose, "batches": announced}
            case BatchDone(_, outputs):
                for output in outputs:
                    values = [_finite(value) for value in output.values]
                    batches.setdefault(output.blob, []).append(values[0] if len(values) == 1 else values)
            case PassDone(_, loss, outputs):
                means = {output.blob: [_finite(value) for value in output.values] for output in outputs}
                weights = {output.blob: output.loss_weight for output in outputs if output.loss_weight}
                current |= {"loss": _finite(loss), "outputs": means, "loss_weights": weights, "by_batch": batches}
                yield current
            case Dropped(_, images, of, score):
                current["dropped"] = {"images": images, "of": of, "score": _finite(score)}


def _finite(value: float) -> float | None:
    """A number that JSON can say: null stands for NaN and infinity."""
    return value if math.isfinite(value) else None
