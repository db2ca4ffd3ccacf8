"""Flags that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ristretto.bounds import MOST_BATCHES, WHOLE

if TYPE_CHECKING:
    AnyType = click.ParamType[Any]
else:
    AnyType = click.ParamType  # takes a parameter from click 8.4 on

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


class OutputPath(click.Path):
    """A file to be written: ``ristretto batch`` tells it from one that is read."""


OUTPUT_PATH = OutputPath(path_type=Path)


def check_results(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """As ``check_outputs``; and until the command ends no result goes over anything else that it reads.

    Raises:
        UsageError: a result cannot be written, or would go over an input or another result.
    """
    from ristretto.atomic import check_outputs, one_job

    click.get_current_context().with_resource(one_job())
    check_outputs(outputs, inputs)


def whole(name: str) -> click.IntRange:
    """The type of an option that is a whole number, by its name in Python."""
    return click.IntRange(*WHOLE[name])


class IterationsType(AnyType):
    """A number of batches, or "all"."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        """Turn the text into a number; "all" stays."""
        if value == "all" or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        text = str(value)
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= MOST_BATCHES:
            self.fail(f"'{text[:40]}' is neither a number of batches from 1 to {MOST_BATCHES} nor all", param, ctx)
        return int(text)


class WeightsType(AnyType):
    """Weights files, separated by commas as Caffe takes them."""

    name = "FILE[,FILE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Path, ...]:
        """Split at the commas."""
        if isinstance(value, tuple):
            return value
        paths = tuple(Path(part) for part in str(value).split(",") if part)
        if not paths:
            self.fail("no file is given", param, ctx)
        return paths

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The shell completes the name of the last file itself."""
        return [CompletionItem(incomplete, type="file")]


class ListType(AnyType):
    """Words or numbers, separated by commas."""

    name = "A,B"

    def __init__(self, numbers: bool = False) -> None:
        self.numbers = numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Split at the commas."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        if self.numbers and not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
            self.fail(f"'{str(value)[:200]}' is no list of whole numbers", param, ctx)
        return tuple(map(int, words)) if self.numbers else tuple(words)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


ROUNDINGS = ("half_even", "half_away", "half_up", "truncate", "stochastic")

model = click.option("--model", type=PATH, required=True, help="The net's prototxt.")
weights = click.option(
    "--weights", type=WeightsType(), required=True, help="Its trained weights; later files override."
)
optional_weights = click.option(
    "--weights", type=WeightsType(), default=(), help="Trained weights; later files override."
)
rounding = click.option(
    "--rounding",
    type=click.Choice(ROUNDINGS),
    default="half_even",
    show_default=True,
    help="How quantized values are rounded. half_away is what the original did on a CPU, half_even on a GPU.",
)
score = click.option("--score", metavar="BLOB", help="The blob that decides.  [default: the first output blob]")
score_script = click.option(
    "--score_script", metavar="MODULE:FUNCTION", help="Your own metric over outputs and labels."
)
iterations = click.option(
    "--iterations",
    type=IterationsType(),
    metavar="N|all",
    help="Batches per score; all scores every image of the TEST source once.  [default: 50; all with --inputs]",
)
inputs = click.option(
    "--inputs", type=PATH, metavar="FILE.npz", help="Arrays by blob name, in place of the net's data."
)
data_root = click.option("--data-root", type=PATH, metavar="DIR", help="Where relative sources are looked for.")
seed = click.option("--seed", type=int, default=0, show_default=True, help="Of crops, mirrors and stochastic rounding.")
threads = click.option("--threads", type=whole("threads"), default=0, help="Threads per run.  [default: one per core]")
gpu = click.option(
    "--gpu", default="", metavar="ID", help="Run on this CUDA device, if onnxruntime has CUDA.  [default: the CPU]"
)
workers = together(
    click.option(
        "--workers",
        type=whole("workers"),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes that share the batches of each score; 0 for one per core. The scores stay the same.",
    ),
    click.option(
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="Let a Dask cluster do that, such as tcp://host:8786 (docs/scaling.md).",
    ),
)
phase = click.option("--phase", type=click.Choice(["TRAIN", "TEST"]), default="TEST", show_default=True)
state = together(
    click.option(
        "--level", type=int, default=0, help="The level that the net's include and exclude rules compare with."
    ),
    click.option("--stage", "stages", type=ListType(), default=(), help="The stages of these rules."),
)
plugins = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE|FILE.py",
    help="Code that teaches layer types, see docs/plugins.md; may be repeated.",
)
report = click.option("--report", type=OUTPUT_PATH, metavar="OUT.json", help="Write the report as JSON.")


def batches_asked(iterations: int | str | None, inputs: Path | None) -> int | None:
    """The number of batches that --iterations asks for; None stands for all images once."""
    if iterations is None:
        return 50 if inputs is None else None
    return None if iterations == "all" else int(iterations)


arithmetic = together(
    click.option(
        "--arithmetic",
        type=click.Choice(("float32", "float64", "integer")),
        default="float32",
        show_default=True,
        help="How a net is computed: in floats, or quantized layers on integers, bit for bit as hardware does.",
    ),
    click.option(
        "--accumulator_bits",
        type=click.IntRange(2, 48),
        default=32,
        show_default=True,
        help="Bits of the accumulator of integer arithmetic.",
    ),
    click.option(
        "--overflow",
        type=click.Choice(("saturate", "wrap", "report")),
        default="saturate",
        show_default=True,
        help="What that accumulator does with a sum that it cannot hold; report keeps the sum and counts it.",
    ),
)

DIALECTS = ("extended", "original", "chaidnn", "intel", "accdnn")

dialect_read = together(
    click.option(
        "--dialect",
        type=click.Choice(("auto", *DIALECTS)),
        default="auto",
        show_default=True,
        help="The dialect of a quantized prototxt; auto goes by the names of its fields (docs/dialects.md).",
    ),
    click.option(
        "--nearest", is_flag=True, help="Take scales in it that are no powers of two for the nearest power of two."
    ),
)

untrusted = click.option(
    "--untrusted",
    is_flag=True,
    help="The files are somebody else's: refuse paths in them that lead out of their folder and --data-root.",
)

net_run = together(rounding, arithmetic, inputs, data_root, untrusted, state, seed, threads, gpu, dialect_read, plugins)


def simulated(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags of a simulation, their texts turned into the values that they name."""
    from ristretto.numerics.arithmetic import Accumulator, Arithmetic, Overflow
    from ristretto.numerics.rounding import Rounding

    rest = {name: value for name, value in flags.items() if name not in ("accumulator_bits", "overflow")}
    return {
        **rest,
        "rounding": Rounding(flags["rounding"]),
        "arithmetic": Arithmetic(flags["arithmetic"]),
        "accumulator": Accumulator(flags["accumulator_bits"], Overflow(flags["overflow"])),
    }
