"""The ``ristretto`` program: gflags habits accepted, errors on one line, exit statuses."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import click

from ristretto.errors import RistrettoError

EXIT_MISTAKE = 2
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130

_COMMANDS = {
    "quantize": ("ristretto.cli.quantize", "quantize"),
    "test": ("ristretto.cli.test", "test"),
    "run": ("ristretto.cli.run", "run"),
    "apply": ("ristretto.cli.files", "apply"),
    "upgrade": ("ristretto.cli.files", "upgrade"),
    "fold": ("ristretto.cli.fold", "fold"),
    "inspect": ("ristretto.cli.inspect", "inspect"),
    "compare": ("ristretto.cli.compare", "compare"),
    "convert": ("ristretto.cli.convert", "convert"),
    "demo": ("ristretto.cli.demo", "demo"),
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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _SUMMARIES[name]) for name in _COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


_SUMMARIES = {
    "quantize": "Turn a trained Caffe net into a fixed-point net.",
    "test": "Score a net, quantized or not.",
    "run": "Run one batch through a net and save its blobs.",
    "apply": "Write chosen number formats into any prototxt.",
    "upgrade": "Bring a V0 or V1 net to today's format.",
    "fold": "Fold BatchNorm, Scale and Bias into the layer before them.",
    "inspect": "Show layers, shapes, parameters, operations and weight ranges.",
    "compare": "Say layer by layer how far a quantized net is from its float net.",
    "convert": "Turn a net and its weights into an ONNX model.",
    "demo": "Quantize a small net that comes with the tool.",
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

    Flags may be written as gflags does: -model=x, --model x, with underscores or dashes. Exit status: 0 done, 2 a
    mistake in what was given (one line on stderr says what, where and how to mend it), 1 a fault of ours, 3 the margin
    was missed and --strict was given.
    """


def gflags_to_click(arguments: Sequence[str]) -> list[str]:
    """Rewrite gflags' single dash to two; click takes underscores and dashes in flag names for the same."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return [re.sub(r"^-(?=[A-Za-z][\w-])", "--", word) for word in words[:end]] + words[end:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    given = gflags_to_click(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
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
        return _mistake(str(error), debug)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("ristretto: interrupted, nothing was written", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAULT
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        text = " ".join(str(error).split())
        click.echo(f"ristretto: our fault, please report it: {kind}: {text} (--debug shows where)", err=True)
        return EXIT_FAULT


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = f"ristretto {context.info_name}" if context and context.parent else "ristretto"
    return f"{message}; see {command} --help" if isinstance(error, click.UsageError) else message


def _mistake(text: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"ristretto: {text}", err=True)
    return EXIT_MISTAKE


def entry() -> None:
    """The console script."""
    sys.exit(main())
