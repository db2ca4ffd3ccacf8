"""The result of a quantization as a small table: what is quantized, how wide it is, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ristretto.decide.confidence import drop_interval
from ristretto.decide.search import Ladder
from ristretto.report.model import Report

COLUMNS = ("", "width", "score", "drop, points")

_NOUNS = {
    "conv": "CONV weights",
    "fc": "FC weights",
    "activations": "activations",
    "minifloat": "weights and activations",
    "weights": "weights",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is quantized in it.
        width: its width, in words.
        score: the score of the net with this alone; None where that was not measured.
        drop: the float net's score minus this, in percent points.
    """

    what: str
    width: str
    score: float | None = None
    drop: float | None = None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The line's texts, by column."""
        score = "" if self.score is None else f"{self.score:g}"
        drop = "" if self.drop is None else f"{round(self.drop, 2) + 0.0:.2f}"  # no -0.00
        return self.what, self.width, score, drop


def result_rows(report: Report) -> tuple[Row, ...]:
    """The float net, each group alone, and all together."""
    baseline, combined = report.baseline.score, report.combined.score
    rows = [Row("float net", "32 bit", baseline)]
    rows += [_group(report, group, ladder) for group, ladder in report.ladders.items()]
    if report.mixed is not None and report.mixed.chosen is not None:
        unit = str(dict(report.settings.options).get("cost", "weight_bits")).replace("_", " ")
        rows.append(Row("every layer its own", f"{report.mixed.chosen.point.cost:.2f} {unit}"))
    rows.append(Row("all together", "", combined, 100 * (baseline - combined)))
    return tuple(rows)


def _group(report: Report, group: str, ladder: Ladder) -> Row:
    width = f"{ladder.chosen} bit" + ("" if ladder.trials else ", as asked")
    score = next((trial.score for trial in ladder.trials if trial.bw == ladder.chosen and trial.images is None), None)
    drop = None if score is None else 100 * (report.baseline.score - score)
    return Row(_NOUNS.get(group, group), width, score, drop)


def verdict(report: Report) -> str:
    """Whether the margin holds, and how sure the drop is."""
    margin = f"the margin of {report.settings.error_margin:g} points is {'held' if report.margin_met else 'missed'}"
    if report.paired is None:
        return margin
    interval = drop_interval(report.paired)
    ends = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return f"{margin}; with 95 % confidence the drop is {ends}"


def table_lines(report: Report) -> Iterator[str]:
    """The table as plain text, and the verdict below it."""
    rows = [COLUMNS, *(row.cells for row in result_rows(report))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for what, width, *numbers in rows:
        right = [text.rjust(size) for text, size in zip(numbers, widths[2:], strict=True)]
        yield "  ".join([what.ljust(widths[0]), width.ljust(widths[1]), *right]).rstrip()
    yield verdict(report)
