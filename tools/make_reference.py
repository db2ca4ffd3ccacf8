"""Write docs/reference: every command with its flags, every field of quantization_param, as the program has them.

python tools/make_reference.py            write the pages
python tools/make_reference.py --check    say which are out of date; exit status 1 if any is
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ristretto.atomic import atomic_write_text
from ristretto.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
PROTO = ROOT / "proto" / "caffe.proto"

NUMBERS = {"INTEGER": "whole number", "INTEGER RANGE": "whole number", "FLOAT": "number", "FLOAT RANGE": "number"}
SHARED = {"--quiet", "--verbose", "--log-format", "--help"}
"""Flags that all commands have."""

MEANINGS = {
    "precision": "the kind of number: fixed point, the original's minifloat, or weights that are powers of two with "
    "activations in fixed point",
    "rounding_scheme": "`STOCHASTIC` rounds up with the probability of the fraction that is cut off; `NEAREST` is what "
    "`--rounding` says, half to even by default",
    "bw_layer_in": "bits of the bottoms, the sign bit included",
    "bw_layer_out": "bits of the tops",
    "bw_params": "bits of the weights, and of the bias where it has no format of its own",
    "fl_layer_in": "fractional length of the bottoms: they are multiples of 2^-fl; may be negative, or above the width",
    "fl_layer_out": "fractional length of the tops",
    "fl_params": "fractional length of the weights, and of the bias where it has no format of its own",
    "mant_bits": "with `MINIFLOAT`: bits of the mantissa",
    "exp_bits": "with `MINIFLOAT`: bits of the exponent",
    "exp_min": "with `INTEGER_POWER_OF_2_WEIGHTS`: the least exponent of a weight",
    "exp_max": "with `INTEGER_POWER_OF_2_WEIGHTS`: the greatest exponent of a weight",
    "bw_bias": "bits of the bias; set together with `fl_bias`",
    "fl_bias": "fractional length of the bias",
    "unsigned_layer_in": "the bottoms have no sign bit: 0 to 2^bw - 1",
    "unsigned_layer_out": "the tops have no sign bit",
    "fl_params_channel": "a fractional length of the weights for each index of the blob's axis 0, in place of "
    "`fl_params`",
    "keep_zero": "with `INTEGER_POWER_OF_2_WEIGHTS`: zero is a value; else a zero becomes 2^exp_min",
    "float_format": "with `MINIFLOAT`: a floating point format by name, such as `half`, in place of `exp_bits` and "
    "`mant_bits`",
    "float_layer_in": "the bottoms are not rounded, whatever else is set",
    "float_layer_out": "the tops are not rounded",
    "float_params": "the weights are not rounded",
    "float_bias": "the bias is not rounded",
    "float_format_layer_in": "a floating point format of the bottoms alone, with any `precision`",
    "float_format_layer_out": "one of the tops alone",
    "float_format_params": "one of the weights alone",
    "float_format_bias": "one of the bias alone",
    "copy_layer_in": "the layer reads a rounded copy: the bottoms stay as they are for their other readers",
    "scale_in": "Intel Caffe's: the factors of its integer inputs",
    "scale_out": "Intel Caffe's: the factors of its integer outputs",
    "scale_params": "Intel Caffe's: the factors of its integer weights",
    "is_negative_input": "Intel Caffe's: whether inputs may be negative",
    "force_u8_input": "Intel Caffe's: whether inputs are taken for bytes without sign",
}

COMMANDS_HEAD = """# Commands and their flags

Written by `tools/make_reference.py` from the program itself; `ristretto COMMAND --help` says the same in a terminal.
What all commands share, such as exit statuses and gflags habits, stands in [Commands](../commands.md). `-` and `_` are
the same in a flag's name.
"""

PROTOTXT_HEAD = """# Fields of the prototxt

Written by `tools/make_reference.py` from `proto/caffe.proto`. A quantized layer carries a `quantization_param`:

```prototxt
layer {
  name: "conv1"
  type: "ConvolutionRistretto"
  bottom: "data"
  top: "conv1"
  convolution_param { num_output: 16 kernel_size: 5 }
  quantization_param {
    bw_layer_in: 8
    bw_layer_out: 8
    bw_params: 8
    fl_layer_in: 7
    fl_layer_out: 4
    fl_params: 8
  }
}
```

## Types

| float | quantized |
| --- | --- |
"""

PROTOTXT_TAIL = """
Fields 1 to 12 are the C++ Ristretto's, with its numbers and defaults; its `LayerParameter` has them as field 149.
Fields from 100 up are this tool's. `--dialect original` writes none of these, and refuses what only they can say.
Fields from 10000 up are of other tools (docs/dialects.md): they exist in text alone.

In the quantized types an unset width or length has its default, as in the C++ tool: a `ConvolutionRistretto` without
`quantization_param` computes with 32 bits, 16 of them fractional. In a layer that keeps its type, what is not set is
float. What a bias is where nothing is said of it, and all else about formats: [Number formats](../formats.md).
"""


def commands_page() -> str:
    """Every command: what it does, an example, its flags under their headings."""
    parts = [COMMANDS_HEAD]
    for name in cli.list_commands(click.Context(cli)):
        context = click.Context(cli, info_name="ristretto")
        command = cli.get_command(context, name)
        assert command is not None
        parts.append("\n".join(_command(name, command, click.Context(command, parent=context, info_name=name))))
    context = click.Context(cli, info_name="ristretto")
    command = cli.get_command(context, "test")
    assert command is not None
    shared = [item for item in command.get_params(context) if item.opts[-1] in SHARED]
    parts.append("## Flags of every command\n\n" + "\n".join(_table(shared, context)) + "\n")
    return "\n".join(parts)


def _command(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {name}\n"
    before, shown, after = _parts(command.help or "")
    yield _linked(before) + "\n"
    arguments = [item for item in command.get_params(context) if isinstance(item, click.Argument)]
    if arguments:
        words = " ".join(argument.make_metavar(context) for argument in arguments)
        yield f"`ristretto {name} [FLAGS] {words}`\n"
    yield f"```console\n{shown}\n```\n"
    if after:
        yield _linked(after) + "\n"
    sections: dict[str, list[click.Parameter]] = {}
    for item in command.get_params(context):
        if isinstance(item, click.Option) and item.opts[-1] not in SHARED and not item.hidden:
            sections.setdefault(getattr(item, "section", "Flags"), []).append(item)
    for heading, items in sections.items():
        if len(sections) > 1:
            yield f"### {name}: {heading[0].lower()}{heading[1:]}\n"
        yield from _table(items, context)
        yield ""


def _parts(text: str) -> tuple[str, str, str]:
    """A help text before its examples, the examples, and what comes after.

    Click marks a paragraph that is shown as it is, which examples are, by a backspace in its first line.
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    kept = [number for number, paragraph in enumerate(paragraphs) if paragraph.startswith("\b")]
    first, last = kept[0], kept[-1] + 1
    shown = (paragraph.removeprefix("\b").strip("\n").partition("\n") for paragraph in paragraphs[first:last])
    blocks = (("" if head == "Example:" else f"# {head}\n") + textwrap.dedent(body) for head, _, body in shown)
    return "\n\n".join(paragraphs[:first]), "\n\n".join(blocks), "\n\n".join(paragraphs[last:])


def _table(items: list[click.Parameter], context: click.Context) -> Iterator[str]:
    yield "| flag | value | meaning | default |"
    yield "| --- | --- | --- | --- |"
    for item in items:
        record = item.get_help_record(context)
        if record is None:
            continue
        meaning, _, bracket = f"  {record[1]}".partition("  [")
        notes = [note for note in bracket.rstrip("]").replace("]  [", "; ").split("; ") if note]
        default, value = _default(notes), _value(item, context)
        limits = [note for note in notes if re.search(r"[<>]=?", note)]
        names = ("-h", "--help") if "--help" in item.opts else (*item.opts, *item.secondary_opts)
        flags = ", ".join(f"`{name}`" for name in names)
        yield f"| {flags} | {' '.join([value, *map(_spelt, limits)])} | {_linked(meaning.strip())} | {default} |"


def _default(notes: list[str]) -> str:
    """What stands for a flag that is not given."""
    said = [note for note in notes if not re.search(r"[<>]=?", note)]
    if said == ["required"]:
        return "**required**"
    return _linked("; ".join(said).removeprefix("default: "))


def _spelt(limits: str) -> str:
    """A range in words: from 1 to 32."""
    found = re.fullmatch(r"(?:([\d.]+)(<=?))?x(?:(<=?|>=?)([\d.]+))?", limits)
    assert found, limits
    low, _, relation, high = found.groups()
    if low and high:
        return f"from {low} to {high}" if relation == "<=" else f"between {low} and {high}"
    return f"from {high} up" if relation == ">=" else f"up to {high}"


def _value(item: click.Parameter, context: click.Context) -> str:
    if isinstance(item, click.Option) and (item.is_flag or item.count):
        return ""
    if isinstance(item.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in item.type.choices)
    metavar = item.make_metavar(context)
    return NUMBERS.get(metavar) or " or ".join(f"`{word}`" for word in metavar.split("|"))


def _linked(text: str) -> str:
    """Names of documentation files as links; no bar may end a table's cell."""
    text = re.sub(r"docs/(\w+)\.md", _page_link, text.replace("|", "\\|"))
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]*)", r"`\1`", text)


def _page_link(found: re.Match[str]) -> str:
    name = found[1]
    return f"[{name}](../{name}.md)" if (FOLDER.parent / f"{name}.md").exists() else found[0]


def prototxt_page() -> str:
    """The types, and every field with its number, default and meaning.

    Raises:
        KeyError: a field of the schema has no meaning in `MEANINGS`.
    """
    from ristretto.dialects.fields import PLAIN_TYPES, QUANTIZED_TYPES

    types = [f"| `{old}` | `{new}` |" for old, new in QUANTIZED_TYPES.items()]
    others = ", ".join(f"`{name}`" for name in sorted(PLAIN_TYPES))
    rows = ["| field | number | type | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for field in quantization_fields():
        name, number, kind, default = field
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{name}` | {number} | {kind} | {shown} | {MEANINGS[name]} |")
    return (
        PROTOTXT_HEAD
        + "\n".join(types)
        + f"\n\nThese keep their type when they get formats: {others}. `LRN` becomes `LRNRistretto` only where every "
        + "intermediate value is\nto be a minifloat.\n\n## Fields\n\n"
        + "\n".join(rows)
        + "\n"
        + _linked(PROTOTXT_TAIL)
    )


def quantization_fields() -> Iterator[tuple[str, int, str, str]]:
    """Name, number, type and default of each field of QuantizationParameter, as proto/caffe.proto has them."""
    message = PROTO.read_text(encoding="utf-8").split("message QuantizationParameter {")[1].split("\n}")[0]
    pattern = re.compile(r"^  (optional|repeated) ([\w.]+) (\w+) = (\d+)(?: \[default = ([^\]]+)\])?;", re.MULTILINE)
    enums = {
        name: ", ".join(f"`{word}`" for word in re.findall(r"(\w+) = \d+;", body))
        for name, body in re.findall(r"enum (\w+) \{(.*?)\}", message, re.DOTALL)
    }
    for label, kind, name, number, default in pattern.findall(message):
        spelt = enums.get(kind.rpartition(".")[2], kind)
        yield name, int(number), f"{spelt}, repeated" if label == "repeated" else spelt, default


PAGES: dict[str, Callable[[], str]] = {"commands.md": commands_page, "prototxt.md": prototxt_page}


def main() -> int:
    """Write the pages, or say which differ from what would be written."""
    old = 0
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of date: python tools/make_reference.py")
            old = 1
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, text)
            print(path.relative_to(ROOT))
    return old


if __name__ == "__main__":
    sys.exit(main())
