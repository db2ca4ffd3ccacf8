"""The summary of ``ristretto batch``: the same facts as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from ristretto.atomic import atomic_write_text
from ristretto.cli.jobs_run import Done, read_json
from ristretto.cli.output import is_coloured, is_terminal

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Line:
    """One job in the summary.

    Attributes:
        name, command: what was run.
        status: "done", "failed" or "not run".
        net: the net's name.
        float_score, score: of the float net and the quantized one; of ``test`` the latter alone.
        drop_pct: their difference in percent points.
        margin_met: whether that is allowed.
        widths: those chosen, group by group.
        mean_bits: bits of a parameter, the mean over the whole net, biases and what stays float too.
        bytes_float, bytes: what all parameters take, before and after.
        seconds: how long it took.
        message: why it failed.
    """

    name: str
    command: str
    status: str
    net: str = ""
    float_score: float | None = None
    score: float | None = None
    drop_pct: float | None = None
    margin_met: bool | None = None
    widths: str = ""
    mean_bits: float | None = None
    bytes_float: int | None = None
    bytes: int | None = None
    seconds: float = 0.0
    message: str = ""


_HEADS = {
    "name": "job", "net": "net", "float_score": "float", "score": "score", "drop_pct": "drop, points",
    "margin_met": "margin held", "widths": "bits", "mean_bits": "mean", "bytes": "bytes", "seconds": "s", "status": "",
}  # fmt: skip

_RIGHT = ("float_score", "score", "drop_pct", "mean_bits", "bytes", "seconds")


def line_of(done: Done) -> Line:
    """What the summary says of a job: its report's figures."""
    status = "done" if done.good else "not run" if done.status is None else "failed"
    line = Line(done.job.name, done.job.command, status, seconds=round(done.seconds, 1), message=done.message)
    report = read_json(done.report) if done.good else None
    if not isinstance(report, dict):
        return line
    line = replace(line, net=report.get("net", ""))
    if done.job.command == "test":
        return replace(line, score=report.get("score"))
    try:
        return _quantized(line, report)
    except (AttributeError, KeyError, TypeError, IndexError):  # somebody has put another file in its place
        return replace(line, message=f"{done.report} is no report of this job: --force runs it again")


def _quantized(line: Line, report: dict[str, Any]) -> Line:
    """The figures of a quantization."""
    size = report.get("size")
    if size is not None and size["bytes_float"]:
        mean = 32 * size["bytes"] / size["bytes_float"]
        line = replace(line, mean_bits=round(mean, 3), bytes_float=size["bytes_float"], bytes=size["bytes"])
    return replace(
        line,
        float_score=report["baseline"]["score"],
        score=report["combined"]["score"],
        drop_pct=report["drop_pct"],
        margin_met=report["margin_met"],
        widths=_widths(report),
    )


def _widths(report: dict[str, Any]) -> str:
    """The widths chosen, group by group."""
    mixed = report.get("mixed")
    if isinstance(mixed, dict) and mixed.get("chosen") is not None:
        return f"mean {mixed['path'][mixed['chosen']]['cost']:.3g}"
    return ", ".join(f"{group} {ladder['chosen']}" for group, ladder in report.get("ladders", {}).items())


def write_summary(lines: Sequence[Line], as_csv: Path, as_json: Path) -> None:
    """Write the summary for programs.

    Raises:
        UsageError: it cannot be written.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(Line.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    rows = [asdict(line) for line in lines]
    writer.writerows([{key: "" if value is None else value for key, value in row.items()} for row in rows])
    atomic_write_text(as_csv, table.getvalue())
    atomic_write_text(as_json, json.dumps({"schema": SCHEMA, "jobs": rows}, indent=1, allow_nan=False) + "\n")


def print_summary(lines: Sequence[Line]) -> None:
    """The table on stdout: drawn in a wide terminal, columns of text elsewhere; then what failed, and why.

    In colours, where they are wanted, a job that failed or missed its margin is red.
    """
    rows = [[_cell(key, getattr(line, key)) for key in _HEADS] for line in lines]
    red = [line.status == "failed" or line.margin_met is False for line in lines]
    texts = [list(_HEADS.values()), *rows]
    sizes = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines_around = 3 * len(sizes) + 1
    if is_terminal(sys.stdout) and sum(sizes) + lines_around <= get_terminal_size().columns:
        _draw(rows, red)
    else:
        for row, bad in zip(texts, [False, *red], strict=True):
            text = "  ".join(text.ljust(size) for text, size in zip(row, sizes, strict=True)).rstrip()
            click.echo(click.style(text, fg="red") if bad and is_coloured(sys.stdout) else text)
    for line in lines:
        if line.message:
            click.echo(f"{line.name}: {line.message}")


def _draw(rows: Sequence[Sequence[str]], red: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for key, head in _HEADS.items():
        table.add_column(head, justify="right" if key in _RIGHT else "left", no_wrap=True)
    for row, bad in zip(rows, red, strict=True):
        table.add_row(*map(Text, row), style="red" if bad else "")
    Console(color_system="auto" if is_coloured(sys.stdout) else None).print(table)


def _cell(key: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}" if key == "seconds" else f"{value:.4g}"
    return str(value)
