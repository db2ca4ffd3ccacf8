"""The search for the narrowest bit-widths within the margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

LADDER = (16, 8, 4, 2, 1)
"""The bit-widths that the original tries, widest first."""

FALLBACK_BW = 32
"""What is chosen where no width holds: the original's word for "not quantized"."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One bit-width of a ladder and the score the net had with it.

    Attributes:
        images: how many images the score was estimated on, where that was enough to know that it misses the margin;
            None for a score over all of them.
    """

    bw: int
    score: float
    images: int | None = None


@dataclass(frozen=True, slots=True)
class Ladder:
    """The outcome of one ladder.

    Attributes:
        trials: what was tried, in order; the last one may have missed the margin.
        chosen: the narrowest width that held, or the fallback if none did.
    """

    trials: tuple[Trial, ...]
    chosen: int


def descend(
    evaluate: Callable[[int], float],
    *,
    baseline: float,
    margin: float,
    widths: Sequence[int] = LADDER,
    fallback: int = FALLBACK_BW,
) -> Ladder:
    """Walk from wide to narrow and stop at the first width that misses the margin.

    Args:
        evaluate: gives the score of the net at a width.
        baseline: the float score.
        margin: the allowed drop, in the unit of the score (not in percent).
        widths: the widths to try.
        fallback: what is chosen if the widest one misses already.
    """
    trials: list[Trial] = []
    chosen = fallback
    for bw in sorted(widths, reverse=True):
        trials.append(Trial(bw, evaluate(bw)))
        if not holds(trials[-1].score, baseline, margin):
            break
        chosen = bw
    return Ladder(tuple(trials), chosen)


def with_estimates(ladder: Ladder, images: Mapping[int, int]) -> Ladder:
    """A ladder that says which widths' scores were estimated, and on how many images."""
    return replace(ladder, trials=tuple(replace(trial, images=images.get(trial.bw)) for trial in ladder.trials))


def widest_loss(ladders: Mapping[str, Ladder]) -> str | None:
    """The group that lost most at its chosen width, of those that were tried at a wider one too; None if none was."""
    lost = {
        group: trial.score
        for group, ladder in ladders.items()
        for trial in ladder.trials
        if trial.bw == ladder.chosen and widened(ladder) is not ladder
    }
    return min(lost, key=lambda group: lost[group]) if lost else None


def widened(ladder: Ladder) -> Ladder:
    """A ladder with the next wider width of those tried chosen; the same where there is none."""
    wider = [trial.bw for trial in ladder.trials if trial.bw > ladder.chosen]
    return replace(ladder, chosen=min(wider)) if wider else ladder


def holds(score: float, baseline: float, margin: float) -> bool:
    """Whether a score is no more than the margin below the baseline; one that is not a number never holds.

    A drop of exactly the margin holds, so the comparison leaves room for the rounding of the sums: scores that count
    images differ by far more than that.
    """
    return score + margin >= baseline - 1e-9
