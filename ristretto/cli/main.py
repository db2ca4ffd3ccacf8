"""The ``ristretto`` program: gflags habits accepted, errors on one line, exit statuses."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import IO

import click

from ristretto.cli.gflags import gflags_to_click, switches_to_click, take_glog_flags
from ristretto.cli.output import is_coloured
from ristretto.cli.output_flags import output_of, output_options, with_shared_flags
from ristretto.cli.signals import Terminated, hear_signals
from ristretto.errors import RistrettoError

__all__ = ["cli", "entry", "gflags_to_click", "main"]

EXIT_MISTAKE = 2
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as what SIGPIPE ends: nobody reads on

_OF_THE_SYSTEM = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ESTALE")
    if hasattr(errno, name)
}
"""Errors of system calls that no program can help: full disks and the like."""

_COMMANDS = {
    "quantize": ("ristretto.cli.quantize", "quantize"),
    "test": ("ristretto.cli.test", "test"),
    "run": ("ristretto.cli.run", "run"),
    "apply": ("ristretto.cli.files", "apply"),
    "convert-dialect": ("ristretto.cli.files", "convert_dialect"),
    "upgrade": ("ristretto.cli.files", "upgrade"),
    "fold": ("ristretto.cli.fold", "fold"),
    "inspect": ("ristretto.cli.inspect", "inspect"),
    "batch": ("ristretto.cli.batch", "batch"),
    "doctor": ("ristretto.cli.doctor", "doctor"),
    "init": ("ristretto.cli.init", "init"),
    "compare": ("ristretto.cli.compare", "compare"),
    "report": ("ristretto.cli.report", "report"),
    "verify": ("ristretto.cli.verify", "verify"),
    "convert": ("ristretto.cli.convert", "convert"),
    "finetune": ("ristretto.cli.finetune", "finetune"),
    "export": ("ristretto.cli.export", "export"),
    "demo": ("ristretto.cli.demo", "demo"),
    "completion": ("ristretto.cli.completion", "completion"),
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is asked for, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        import importlib

        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return with_shared_flags(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, switches_to_click(rest, _switches(command)) if command is not None else rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _SUMMARIES[name]) for name in _COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _switches(command: click.Command) -> dict[str, tuple[str, str]]:
    """The flags of a command that take no value: by name the words for yes and for no."""
    switches: dict[str, tuple[str, str]] = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.is_flag:
            yes, no = option.opts[0], option.secondary_opts[0] if option.secondary_opts else ""
            switches |= {_bare(word): (yes, no) for word in option.opts}
            switches |= {_bare(word): (no, yes) for word in option.secondary_opts}
    return switches


def _bare(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


_SUMMARIES = {
    "quantize": "Turn a trained Caffe net into a fixed-point net.",
    "test": "Score a net, quantized or not.",
    "run": "Run one batch through a net and save its blobs.",
    "apply": "Write chosen number formats into any prototxt.",
    "convert-dialect": "Write a quantized prototxt for another reader.",
    "upgrade": "Bring a V0 or V1 net to today's format.",
    "fold": "Fold BatchNorm, Scale and Bias into the layer before them.",
    "batch": "Run many jobs from a file, and sum them up.",
    "init": "Make a net that can be scored from a deploy net and images.",
    "doctor": "Say what would go wrong with a net, before anything runs.",
    "inspect": "Show layers, shapes, parameters, operations and weight ranges.",
    "compare": "Say layer by layer how far a quantized net is from its float net.",
    "report": "Draw the JSON report of a quantization as an HTML page.",
    "verify": "Run the job of a report again, and compare.",
    "convert": "Turn a net and its weights into an ONNX model.",
    "finetune": "Train a net as it is quantized.",
    "export": "Write a quantized net for hardware and other runtimes.",
    "demo": "Quantize a small net that comes with the tool.",
    "completion": "Print what makes your shell complete commands and flags.",
}


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("-", "_"),
    },
)
@click.version_option(package_name="ristretto-fixed-point", prog_name="ristretto")
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
def cli(debug: bool) -> None:
    """Turn a trained Caffe net into a fixed-point net that hardware can run.

    \b
    Example:
      ristretto quantize --model train_val.prototxt --weights net.caffemodel \\
        --model_quantized quantized.prototxt --trimming_mode dynamic_fixed_point

    Flags may be written as gflags does: -model=x, --model x, with underscores or dashes; glog's flags, such as
    --minloglevel=1, are taken too. Exit status: 0 done, 2 a mistake in what was given (one line on stderr says what,
    where and how to mend it), 1 a fault of ours, 3 the margin was missed and --strict was given, 130 interrupted,
    143 ended by SIGTERM.
    """


cli.params.extend(output_options())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in a prototxt need not be UTF-8
    try:
        words, glog = take_glog_flags(words, os.environ)
    except RistrettoError as error:
        return _mistake(str(error), False)
    with output_of(glog):
        return _run(gflags_to_click(words))


def _run(given: list[str]) -> int:
    debug = "--debug" in given
    streams = sys.stdout, sys.stderr
    try:
        status = cli.main(
            args=["--debug"] * debug + [word for word in given if word != "--debug"],
            prog_name="ristretto",
            standalone_mode=False,
        )
        return int(status or 0)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_MISTAKE
    except click.ClickException as error:
        return _mistake(_one_line(error), debug)
    except RistrettoError as error:
        _tell_misspellings(error)
        return _mistake(str(error), debug)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _say("interrupted, nothing is left half written")
        return EXIT_INTERRUPTED
    except Terminated as stop:
        _say(f"ended by {stop.name}, nothing is left half written")
        return stop.status
    except MemoryError:
        return _mistake("there is not enough memory for this: make the batch or the files smaller", debug)
    except SystemExit:
        if sys.stdout is streams[0]:
            raise
        # What click makes of a pipe that nobody reads: other streams, and an exit as if the fault were ours.
        sys.stdout, sys.stderr = streams
        return EXIT_UNREAD
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            return _fault(error, debug)
        where = error.filename or "stdout"  # whatever else is written tells its name
        return _mistake(f"{where}: {error.strerror}; free some space or choose another place", debug)
    except Exception as error:
        return _fault(error, debug)


def _fault(error: Exception, debug: bool) -> int:
    """Tell of a fault of ours.

    Raises:
        Exception: it, where somebody wants to see where it comes from.
    """
    if debug:
        raise error
    kind = type(error).__name__
    text = " ".join(str(error).split())
    _say(f"our fault, please report it: {kind}: {text} (--debug shows where)")
    return EXIT_FAULT


def _flushed(stream: IO[str] | None) -> int:
    """The exit status for a stream: 0 if it got rid of what was written to it."""
    try:
        if stream is not None:
            stream.flush()
    except BrokenPipeError:
        return EXIT_UNREAD
    except OSError:
        return EXIT_MISTAKE
    return 0


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = f"ristretto {context.info_name}" if context and context.parent else "ristretto"
    return f"{message}; see {command} --help" if isinstance(error, click.UsageError) else message


def _mistake(text: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    _say(text)
    return EXIT_MISTAKE


def _tell_misspellings(error: RistrettoError) -> None:
    """Warn of fields that nobody knows before an error in that file: one of them may be what it misses."""
    if not error.file:
        return
    from ristretto.cli.console import warn
    from ristretto.pipeline.misspelt import unknown_fields_of

    for warning in unknown_fields_of(error.file):
        warn(warning)


def _say(text: str) -> None:
    """Write one line about an end that was not wished for."""
    coloured = is_coloured(sys.stderr)
    head = click.style("ristretto:", fg="red", bold=True) if coloured else "ristretto:"
    with suppress(OSError):  # a terminal that was closed, a log on a full disk
        click.echo(f"{head} {text}", err=True, color=coloured)


def entry() -> None:
    """The console script."""
    hear_signals()
    status = main()
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if left := _flushed(stream):  # Python would try it once more, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            status = status or left
    sys.exit(status)
