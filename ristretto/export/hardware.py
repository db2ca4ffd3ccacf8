"""Target ``hardware``: integers, shifts, shapes and test vectors in a folder, and ``net.json`` that ties them together.

The schema is told in docs/hardware.md. Vectors are what ``ristretto run --arithmetic integer`` computes of the same
images, as the codes of each value's format.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_folder, check_folder
from ristretto.caffe.parameters import Blobs, fit_weights
from ristretto.caffe.shapes import NetShapes, infer_shapes
from ristretto.errors import FormatError, NetError, UsageError
from ristretto.export.job import Array, Batch, Exported, ExportJob
from ristretto.export.program import Program, Step, Value, make_program
from ristretto.export.tensors import FORMATS, SUFFIXES, Tensor, files_of, identifier
from ristretto.graph.grids import Grid
from ristretto.numerics.integer import requantize
from ristretto.numerics.rounding import Rounding

SCHEMA = "ristretto-hardware"
VERSION = 1
MANIFEST = "net.json"

_OF_VECTORS = ("npy", "hex")
"""What a test bench reads; nobody compiles the values of images into memories."""

_NAMED = 5
"""Layers that a line names before it counts the rest."""

_LONGEST_NAME = 60
_FOLDABLE = frozenset({"BatchNorm", "Scale", "Bias"})


def export_hardware(job: ExportJob) -> Exported:
    """Write a quantized net as a folder for a hardware generator.

    Raises:
        RistrettoError: a user's mistake, or a net that has no integer form.
    """
    options = job.options
    read = [options.model, *options.weights, *filter(None, [options.inputs])]
    check_folder(options.output, read, MANIFEST, force=options.force)
    formats = options.formats or FORMATS
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown:
        raise UsageError(f"there is no format '{unknown[0]}'", cure=f"choose of {', '.join(FORMATS)}")
    chosen = _chosen_layers(job)
    batch = job.images(options.images)
    shapes = infer_shapes(job.net, {blob: array.shape for blob, array in batch.items()})
    blobs = fit_weights(job.net, shapes, job.weights)
    program, values = _run(job, shapes, blobs, batch)
    with atomic_folder(options.output, read, MANIFEST, force=options.force) as folder:
        writer = _Writer(folder, formats)
        manifest = _manifest(job, program, values, chosen, writer)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return _told(job, program, writer)


def _chosen_layers(job: ExportJob) -> frozenset[str]:
    """The layers whose files are written."""
    names = [layer.name for layer in job.net.layers]
    for name in job.options.layers:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            cure = f"is '{near[0]}' meant?" if near else f"its layers are {', '.join(names)}"
            raise UsageError(f"the net has no layer '{name}'", file=job.net.file, cure=cure)
    return frozenset(job.options.layers or names)


def _run(job: ExportJob, shapes: NetShapes, blobs: Sequence[Blobs], batch: Batch) -> tuple[Program, dict[str, Array]]:
    """The net as a program, and all its values for a batch.

    A layer that was given a format (``Program.completed``) has to compute what it did without, as its readers see it:
    where an image shows that it does not, it stays float.
    """
    stay_float: set[str] = set()
    asked = [value for layer in job.net.layers for value in layer.outputs]
    program = _program(job, shapes, blobs, stay_float)  # before anything is run: it says what cannot be
    plain = job.values(asked, batch)
    while program.completed:
        formats = {**job.simulation.formats, **program.completed}
        values = job.values(asked, batch, replace(job.simulation, formats=formats))
        wrong = _differing(program, plain, values)
        if not wrong:
            return program, values
        stay_float |= wrong
        program = _program(job, shapes, blobs, stay_float)
    return program, plain


def _program(job: ExportJob, shapes: NetShapes, blobs: Sequence[Blobs], stay_float: Collection[str]) -> Program:
    """The program; what the simulation cannot compute is told as what cannot be exported."""
    try:
        return make_program(job.net, shapes, blobs, job.simulation, stay_float)
    except NetError as error:
        raise NetError(
            error.what.replace("integer arithmetic cannot compute this layer", "this layer cannot be exported"),
            cure=error.cure.removesuffix(", or use --arithmetic float32"),
            file=error.file,
            line=error.line,
            column=error.column,
            layer=error.layer,
        ) from error


def _differing(program: Program, plain: Mapping[str, Array], values: Mapping[str, Array]) -> set[str]:
    """The completed layers that compute something else than without their formats."""
    wrong = set()
    for name, array in values.items():
        layer = program.between.get(name, "")
        seen = plain[name]
        if layer:
            formats = program.completed[layer]
            fmt, rounding = formats.output, formats.rounding
            seen = fmt.quantize(seen, rounding) if fmt is not None and rounding is not None else seen
        if not np.array_equal(seen, array, equal_nan=True):
            wrong |= {layer} if layer else set(program.completed)
    return wrong


@dataclass
class _Writer:
    """Writes arrays into the folder and says what was written.

    Attributes:
        folder: the folder.
        formats: the kinds of files.
        written: how many files there are.
    """

    folder: Path
    formats: tuple[str, ...]
    written: int = 0

    def write(
        self, place: Literal["weights", "vectors"], number: int, title: str, tensor: Tensor
    ) -> dict[str, dict[str, str]]:
        """Write one array; the entries of its files in the manifest, by kind."""
        (self.folder / place).mkdir(exist_ok=True)
        stem = f"{place}/{number:03d}_{identifier(title)[:_LONGEST_NAME]}"
        entries = {}
        kinds = self.formats if place == "weights" else tuple(kind for kind in self.formats if kind in _OF_VECTORS)
        for kind, content in files_of(tensor, title, kinds):
            path = f"{stem}{SUFFIXES[kind]}"
            (self.folder / path).write_bytes(content)
            entries[kind] = {"file": path, "sha256": hashlib.sha256(content).hexdigest()}
            self.written += 1
        return entries


def _manifest(
    job: ExportJob, program: Program, values: Mapping[str, Array], chosen: Collection[str], writer: _Writer
) -> dict[str, Any]:
    """The content of net.json; files are written on the way."""
    net, accumulator = job.net, job.simulation.accumulator
    codes = _codes(program, values)
    wanted = _values_of(program, chosen)
    entries = {}
    for number, value in enumerate(program.values.values()):
        entries[value.name] = _value_entry(number, value, codes[value.name], value.name in wanted, writer)
    layers = [_step_entry(number, step, job, program, chosen, writer) for number, step in enumerate(program.steps)]
    read = {name for step in program.steps for name in step.inputs}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "generator": f"ristretto {job.options.version}".strip(),
        "net": net.name,
        "images": job.options.images,
        "accumulator": {"bits": accumulator.bw, "overflow": accumulator.overflow.value},
        "inputs": [name for name in program.fed if name in read],
        "outputs": [net.finals[blob] for blob in net.outputs],
        "values": entries,
        "layers": layers,
    }


def _codes(program: Program, values: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """What each value of the program holds: codes as int64, or floats.

    Raises:
        NetError: a NaN is to be rounded.
        RuntimeError: a value does not lie where it was proved to lie: a fault of ours.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, value in program.values.items():
        if name == value.source:
            found[name] = values[name] if value.grid is None else _on_grid(value, value.grid, values[name])
    for step in program.steps:
        if step.type:
            continue
        source, target = step.inputs[0], program.values[step.outputs[0]]
        if target.fmt is None:
            continue
        rounding = Rounding(step.fields["rounding"])
        if step.op == "requantize":
            found[target.name] = requantize(found[source], step.fields["shift"], target.fmt, rounding)
            continue
        try:
            found[target.name] = target.fmt.encode(found[source], rounding)
        except FormatError as error:
            raise NetError(
                f"blob '{target.blob}': {error.what}", cure="see where it arises with ristretto run"
            ) from error
    return found


def _on_grid(value: Value, grid: Grid, array: Array) -> NDArray[np.int64]:
    scaled = np.ldexp(array.astype(np.float64), grid.fl)
    if not ((scaled == np.rint(scaled)) & (scaled >= grid.low) & (scaled <= grid.high)).all():
        message = f"value '{value.name}' leaves the grid of {value.fmt}"
        raise RuntimeError(message)
    return scaled.astype(np.int64)


def _values_of(program: Program, chosen: Collection[str]) -> set[str]:
    """The values that chosen layers read and make, and those that these were rounded from."""
    wanted = {name for step in program.steps if step.name in chosen for name in (*step.inputs, *step.outputs)}
    wanted |= {step.inputs[0] for step in program.steps if not step.type and step.outputs[0] in wanted}
    return wanted


def _value_entry(number: int, value: Value, codes: NDArray[Any], wanted: bool, writer: _Writer) -> dict[str, Any]:
    entry: dict[str, Any] = {"blob": value.blob, "shape": list(codes.shape)}
    fmt, grid = value.fmt, value.grid
    if fmt is None or grid is None:
        entry["float"] = True
        tensor = Tensor(codes, 0, True, "")
    else:
        entry |= {"bw": fmt.bw, "il": fmt.il, "fl": fmt.fl, "signed": fmt.signed, "low": grid.low, "high": grid.high}
        tensor = Tensor(codes, fmt.bw, fmt.signed, "")
    entry["files"] = writer.write("vectors", number, value.name, tensor) if wanted else {}
    return entry


def _step_entry(
    number: int, step: Step, job: ExportJob, program: Program, chosen: Collection[str], writer: _Writer
) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": step.name}
    if step.type:
        entry["type"] = step.type
    entry |= {"op": step.op, "inputs": list(step.inputs), "outputs": list(step.outputs), **step.fields}
    if step.name in program.completed:
        entry["proved"] = step.name not in program.unproved
    if step.op == "float" and (layer := job.net.layer(step.name)) is not None:
        document, message = layer.view.document, layer.view.message
        entry["prototxt"] = document.text[message.start : message.end]
    for role, tensor in step.tensors.items():
        files = writer.write("weights", number, f"{step.name} {role}", tensor) if step.name in chosen else {}
        facts = {"bw": tensor.bw, **tensor.facts, "layout": tensor.layout} if tensor.bw else {"float": True}
        entry[role] = {"shape": list(tensor.codes.shape), **facts, "files": files}
    return entry


def _told(job: ExportJob, program: Program, writer: _Writer) -> Exported:
    linear = [step for step in program.steps if "accumulator" in step.fields]
    in_float = [step for step in program.steps if step.op == "float"]
    integer = sum(1 for step in program.steps if step.type) - len(in_float)
    lines = [f"{integer} layers on integers, {len(linear)} of them with weights"]
    if in_float:
        lines.append(f"{len(in_float)} in float: {_named(in_float)}")
    if linear:
        worst = max(linear, key=_bits_needed)
        asked = job.simulation.accumulator.bw
        lines.append(f"accumulator: {_bits_needed(worst)} bits hold every sum (layer '{worst.name}'), {asked} asked")
    count = job.options.images
    lines.append(f"vectors of {count} image{'s' * (count > 1)}, {writer.written} files, {MANIFEST}")
    return Exported(tuple(lines), tuple(_warnings(program, linear, in_float)))


def _warnings(program: Program, linear: Sequence[Step], in_float: Sequence[Step]) -> Iterator[str]:
    over = [step for step in linear if step.fields["accumulator"]["overflows"]]
    if over:
        bits = max(map(_bits_needed, over))
        have = over[0].fields["accumulator"]["bits"]
        yield f"sums may need {bits} bits, the accumulator has {have}: {_named(over)}"
    made = {name: step for step in in_float for name in step.outputs}
    again = [step.inputs[0] for step in program.steps if step.op == "quantize"]
    blocking = [made[name] for name in again if name in made]
    if blocking:
        foldable = any(step.type in _FOLDABLE for step in in_float)
        cure = "fold BatchNorm and Scale first (ristretto fold)" if foldable else "see their reasons in net.json"
        yield f"integers are made again of what these compute in float: {_named(blocking)}; {cure}"
    if program.unproved:
        names = ", ".join(f"'{name}'" for name in program.unproved)
        yield (
            f"the simulation adds up in float32 what is exact here, in {names}: the same on these images, "
            "not proved for all"
        )


def _bits_needed(step: Step) -> int:
    return int(step.fields["accumulator"]["bits_needed"])


def _named(steps: Sequence[Step]) -> str:
    names = list(dict.fromkeys(f"{step.name} ({step.type})" for step in steps))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
