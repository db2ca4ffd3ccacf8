"""The flags that every command takes: how much is said, and in which form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import click

from ristretto.cli.gflags import GlogFlags
from ristretto.cli.output import LogFormat, Output, change_output, current_output, output_is
from ristretto.errors import UsageError


@contextmanager
def output_of(glog: GlogFlags) -> Iterator[None]:
    """What is asked for inside follows from glog's flags, and then from those of the command."""
    asked = Output(max(0, min(glog.minloglevel, 2)), glog.v > 0, "glog" if glog.prefix else "plain")
    with output_is(asked), _details(asked):
        yield


def _details(asked: Output) -> AbstractContextManager[None]:
    if not asked.verbose:
        return nullcontext()
    from ristretto.cli.console import details_told

    return details_told()


def _quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        if current_output().verbose:
            raise UsageError("--quiet and --verbose exclude each other", cure="give one of the two")
        _change(ctx, least=max(1, current_output().least))


def _verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        if current_output().least:
            raise UsageError("--quiet and --verbose exclude each other", cure="give one of the two")
        _change(ctx, verbose=True)
        if not ctx.resilient_parsing:
            from ristretto.cli.console import details_told

            ctx.with_resource(details_told())


def _log_format(ctx: click.Context, param: click.Parameter, value: LogFormat | None) -> None:
    if value is not None:
        _change(ctx, log_format=value)


def _change(ctx: click.Context, **changes: Any) -> None:
    if not ctx.resilient_parsing:  # which is how completion reads a command line
        change_output(replace(current_output(), **changes))


def output_options() -> list[click.Option]:
    """The flags, made anew for each command."""
    return [
        click.Option(
            ["--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_quiet,
            help="Log warnings and errors only; results go to stdout as ever.",
        ),
        click.Option(
            ["--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_verbose,
            help="Log files, kernels, times and the use of caches too.",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(["glog", "plain"]),
            expose_value=False,
            callback=_log_format,
            help="glog is the original's log, line for line; plain is short lines for reading.  [default: glog]",
        ),
    ]


def with_shared_flags(command: click.Command) -> click.Command:
    """A command with the flags that all commands take; its choices are taken in capital and small letters."""
    if not any(parameter.name == "log_format" for parameter in command.params):
        options = output_options()
        for option in options:
            option.section = "Output"  # type: ignore[attr-defined]
        command.params.extend(options)
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            parameter.type.case_sensitive = False
    return command
