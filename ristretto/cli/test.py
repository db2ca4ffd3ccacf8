"""``ristretto test``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ristretto.cli.options import (
    batches_asked,
    check_results,
    iterations,
    model,
    net_run,
    optional_weights,
    report,
    score,
    score_script,
    simulated,
    workers,
)


@click.command(short_help="Score a net, quantized or not.")
@model
@optional_weights
@iterations
@score
@score_script
@report
@net_run
@workers
def test(**flags: Any) -> int:
    """Score a net, quantized or not, on its TEST data.

    A quantized prototxt is simulated to the letter, whoever wrote it. The score goes to stdout, the log to stderr. With
    --arithmetic integer a table of accumulators, saturation and rounding, layer by layer, follows the log.

    \b
    Example:
      ristretto test --model quantized.prototxt --weights net.caffemodel --iterations all
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.cli.console import job_console
    from ristretto.numerics.arithmetic import Arithmetic
    from ristretto.pipeline.evaluate import NetOptions, evaluate
    from ristretto.report.integer import integer_lines
    from ristretto.report.jsonfile import dump, evaluation_to_json
    from ristretto.version import VERSION

    report_path: Path | None = flags.pop("report")
    batches, blob = batches_asked(flags.pop("iterations"), flags["inputs"]), flags.pop("score")
    script = flags.pop("score_script")
    if report_path is not None:
        check_results([report_path], [flags["model"], *flags["weights"], *filter(None, [flags["inputs"]])])
    options = NetOptions(**simulated(flags))
    with job_console() as console:
        result = evaluate(options, batches, blob, console.hear, script, details=report_path is not None)
        if options.arithmetic is Arithmetic.INTEGER:
            for line in integer_lines(result.integer_layers):
                console.text(line)
    for name, values in result.scored.outputs.items():
        click.echo(f"{name}: {' '.join(format(value, 'g') for value in values)}")
    if report_path is not None:
        atomic_write_text(report_path, dump(evaluation_to_json(result, VERSION)))
    return 0
