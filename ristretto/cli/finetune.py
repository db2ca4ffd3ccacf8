"""``ristretto finetune``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ristretto.cli.options import PATH, WeightsType, check_results, data_root, threads, untrusted
from ristretto.cli.sections import SectionCommand, section

if TYPE_CHECKING:
    from ristretto.pipeline.finetune import Asked


@click.command(short_help="Train a net as it is quantized.", cls=SectionCommand)
@section(
    "The job",
    click.option("--solver", type=PATH, required=True, help="The solver prototxt; it names the net to train."),
    click.option(
        "--weights",
        type=WeightsType(),
        default=(),
        help="The trained weights to start from; later files override.",
    ),
    click.option("--snapshot", type=PATH, metavar="FILE", help="Go on from this .solverstate in place of weights."),
    click.option(
        "--resume", is_flag=True, help="Go on from the last snapshot of the solver's prefix, if there is one."
    ),
)
@section(
    "Rounding while training",
    click.option(
        "--quantize_activations",
        is_flag=True,
        help="Round layer inputs and outputs too; the original left them in float.",
    ),
    click.option(
        "--weight_rounding",
        type=click.Choice(["stochastic", "half_even"]),
        default="stochastic",
        show_default=True,
        help="How weights are rounded in the forward pass. Tests round to nearest.",
    ),
    click.option(
        "--batch_norm",
        type=click.Choice(["trained", "frozen"]),
        default="trained",
        show_default=True,
        help="frozen: BatchNorm uses the statistics it has, as in a test, and keeps them.",
    ),
    click.option("--learn_formats", is_flag=True, help="Train the fractional lengths too."),
    click.option("--formats_rate", type=float, default=0.01, show_default=True, help="The learning rate of that."),
)
@section(
    "Results",
    click.option(
        "--snapshot_prefix", type=PATH, metavar="PREFIX", help="Write snapshots here, not where the solver says."
    ),
    click.option("--output", type=PATH, metavar="OUT.caffemodel", help="Write the trained weights here as well."),
    click.option("--report", "--json", type=PATH, metavar="OUT.json", help="Write losses and scores as JSON."),
    click.option("--plot", type=PATH, metavar="OUT.svg", help="Draw the loss."),
)
@section(
    "Data and machine",
    data_root,
    untrusted,
    click.option(
        "--seed",
        type=int,
        help="Of crops, mirrors, dropout and stochastic rounding.  [default: the solver's random_seed, or 0]",
    ),
    threads,
)
def finetune(report: Path | None, plot: Path | None, **flags: Any) -> int:
    """Train a net further, as it is quantized: its weights learn to be rounded.

    The solver is Caffe's: types, learning rate policies, snapshots and log are the same. If the net that it names is
    quantized, weights are rounded in the forward pass and the gradients go to the float weights behind them. Snapshots
    are PREFIX_iter_N.caffemodel with PREFIX_iter_N.solverstate. Ctrl-C writes one and stops (status 130), SIGTERM too
    (143); SIGHUP writes one and goes on. Needs torch: pip install 'ristretto-fixed-point[finetune]'.

    \b
    Example:
      ristretto finetune --solver solver.prototxt --weights net.caffemodel --plot loss.svg

    \b
    Then:
      ristretto test --model quantized.prototxt --weights PREFIX_iter_1000.caffemodel
    """
    from ristretto.atomic import atomic_together, atomic_write_text
    from ristretto.cli.console import job_console
    from ristretto.errors import UsageError
    from ristretto.pipeline.finetune import FinetuneOptions
    from ristretto.pipeline.finetune import finetune as train
    from ristretto.report.events import BatchDone, PassStarted
    from ristretto.report.jsonfile import dump
    from ristretto.report.loss_plot import loss_plot
    from ristretto.report.training import (
        Stepped,
        TrainingEvent,
        TrainingStarted,
        plain_training_lines,
        training_lines,
        training_to_json,
    )
    from ristretto.version import VERSION

    options = FinetuneOptions(**flags)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError("a plot is written as SVG", file=str(plot), cure="name a file that ends in .svg")
    read = [options.solver, *options.weights, *filter(None, [options.snapshot])]
    check_results([path for path in (report, plot, options.output) if path], read)
    with job_console() as console, _signals() as asked:

        def hear(event: TrainingEvent) -> None:
            lines = training_lines if console.output.log_format == "glog" else plain_training_lines
            for line in lines(event):
                console.log(line)
            if isinstance(event, TrainingStarted):
                console.advance(PassStarted("training", event.end - event.iteration))
            elif isinstance(event, Stepped):
                console.advance(BatchDone(event.iteration, ()))

        with atomic_together():
            result = train(options, hear, asked.now)
            if report is not None:
                atomic_write_text(report, dump(training_to_json(result, VERSION)))
            if plot is not None:
                atomic_write_text(plot, loss_plot(result))
    for test in result.tests[-1:]:
        for output in test.outputs:
            click.echo(f"{output.blob}: {' '.join(format(value, 'g') for value in output.values)}")
    if result.weights:
        click.echo(f"weights: {result.weights}")
    if result.prototxt:
        click.echo(f"formats: {result.prototxt}")
    return 128 + asked.number if result.interrupted else 0


class _Signals:
    """What signals have asked for since it was last looked at, and which one asked to stop."""

    def __init__(self) -> None:
        self.asked: Asked = ""
        self.number = int(signal.SIGINT)

    def now(self) -> Asked:
        """What is asked for; a wish to stop stays."""
        asked = self.asked
        if asked != "stop":
            self.asked = ""
        return asked


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Ctrl-C asks to stop, and the second one stops at once; SIGHUP asks for a snapshot (caffe.cpp).

    SIGTERM is as Ctrl-C: schedulers send it some time before they kill.
    """
    signals = _Signals()

    def stop(number: int, _frame: object) -> None:
        signals.asked, signals.number = "stop", number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])

    def snapshot(_number: int, _frame: object) -> None:
        signals.asked = signals.asked or "snapshot"

    wanted: dict[int, Callable[[int, object], None]] = {signal.SIGINT: stop, signal.SIGTERM: stop}
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None:
        wanted[hangup] = snapshot
    try:
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    except ValueError:  # not the main thread: nothing can be asked for
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
