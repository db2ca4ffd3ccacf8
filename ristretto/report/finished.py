"""A finished score as JSON and back, with all that was told while it was found: nothing of it is lost on the way."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.report.events import BatchDone, Dropped, Event, Output, PassDone, PassStarted
from ristretto.report.model import Answers, Scored


@dataclass(frozen=True, slots=True)
class FinishedScore:
    """The outcome of one pass.

    Attributes:
        purpose: what the pass was for.
        plan: the formats, by a digest of them.
        scored: the score.
        events: what was told.
    """

    purpose: str
    plan: str
    scored: Scored
    events: tuple[Event, ...]


def finished_to_json(finished: FinishedScore) -> dict[str, Any]:
    """A finished score as JSON values."""
    scored = finished.scored
    right = None
    if scored.right is not None:
        right = {"images": len(scored.right), "bits": base64.b64encode(np.packbits(scored.right).tobytes()).decode()}
    return {
        "purpose": finished.purpose,
        "plan": finished.plan,
        "score": _spelled(scored.score),
        "outputs": {blob: _all_spelled(values) for blob, values in scored.outputs.items()},
        "images": scored.images,
        "batches": scored.batches,
        "seconds": _spelled(scored.seconds),
        "right": right,
        "answers": None if scored.answers is None else asdict(scored.answers),
        "broken": scored.broken,
        "uncounted": scored.uncounted,
        "missing": scored.missing,
        "events": [_event_to_json(event) for event in finished.events],
    }


def finished_from_json(data: Any) -> FinishedScore:
    """The score that ``finished_to_json`` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it did not write this.
    """
    outputs = {str(blob): _numbers(values) for blob, values in data["outputs"].items()}
    counts = int(data["images"]), int(data["batches"]), _number(data["seconds"])
    answers = None if data["answers"] is None else Answers(**{name: int(n) for name, n in data["answers"].items()})
    broken = None if data["broken"] is None else int(data["broken"])
    labels = int(data["uncounted"]), int(data["missing"])
    scored = Scored(_number(data["score"]), outputs, *counts, _right(data["right"]), answers, broken, *labels)
    events = tuple(map(_event_from_json, data["events"]))
    return FinishedScore(str(data["purpose"]), str(data["plan"]), scored, events)


def _event_to_json(event: Event) -> list[Any]:
    match event:
        case PassStarted(purpose, batches):
            return ["started", purpose, batches]
        case BatchDone(index, outputs):
            return ["batch", index, _outputs_to_json(outputs)]
        case PassDone(purpose, loss, outputs):
            return ["done", purpose, _spelled(loss), _outputs_to_json(outputs)]
        case Dropped(purpose, images, of, score):
            return ["dropped", purpose, images, of, _spelled(score)]
    raise TypeError(f"a pass tells of no {type(event).__name__}")


def _event_from_json(data: Any) -> Event:
    kind, *facts = data
    match kind, facts:
        case "started", [purpose, batches]:
            return PassStarted(str(purpose), int(batches))
        case "batch", [index, outputs]:
            return BatchDone(int(index), _outputs(outputs))
        case "done", [purpose, loss, outputs]:
            return PassDone(str(purpose), _number(loss), _outputs(outputs))
        case "dropped", [purpose, images, of, score]:
            return Dropped(str(purpose), int(images), int(of), _number(score))
    raise ValueError(f"no event {kind}")


def _outputs_to_json(outputs: Sequence[Output]) -> list[Any]:
    return [[output.blob, _all_spelled(output.values), _spelled(output.loss_weight)] for output in outputs]


def _outputs(data: Any) -> tuple[Output, ...]:
    return tuple(Output(str(blob), _numbers(values), _number(weight)) for blob, values, weight in data)


def _right(data: Any) -> NDArray[np.bool_] | None:
    if data is None:
        return None
    packed = np.frombuffer(base64.b64decode(data["bits"], validate=True), np.uint8)
    images = int(data["images"])
    if len(packed) != -(-images // 8):
        raise ValueError("as many bits as images are expected")
    return np.unpackbits(packed, count=images).astype(np.bool_)


def _spelled(value: float) -> float | str:
    """A number as JSON can say it: those that it cannot are words."""
    return value if math.isfinite(value) else str(value)


def _all_spelled(values: Sequence[float]) -> list[float | str]:
    return [_spelled(value) for value in values]


def _number(value: Any) -> float:
    return float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(_number, values))
