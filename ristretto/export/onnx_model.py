"""What the targets that are ONNX models have in common: which blobs they compute, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from ristretto.atomic import atomic_folder, check_folder
from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import LayerSpec, Shape
from ristretto.caffe.shapes import FED_TYPES
from ristretto.errors import UsageError
from ristretto.export.job import ExportJob
from ristretto.graph.build import Simulation
from ristretto.graph.export import Export
from ristretto.graph.export import export as export_onnx
from ristretto.graph.marked import Marks
from ristretto.numerics.formats import DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import ROLES, LayerFormats, Role

MODEL, REPORT = "net.onnx", "report.json"

ROLE_NAMES: Mapping[Role, str] = {"in": "input", "out": "output", "params": "weights", "bias": "bias"}


def check_output(job: ExportJob) -> None:
    """Find out before anything is computed whether the folder can be written.

    Raises:
        UsageError: it cannot.
    """
    check_folder(job.options.output, _read(job), MODEL, force=job.options.force)


def wanted_blobs(job: ExportJob) -> tuple[str, ...]:
    """The blobs to compute: those asked for, or the net's outputs, with what scores and losses judge in their place.

    Raises:
        UsageError: the net has no such blob, or computes nothing.
    """
    net, asked = job.net, job.options.blobs
    if asked is not None:
        unknown = [blob for blob in asked if blob not in net.finals]
        if unknown or not asked:
            what = f"the net has no blob '{unknown[0]}'" if unknown else "--blobs names no blob"
            raise UsageError(what, file=net.file, cure=f"its blobs are {', '.join(net.finals)}")
        return tuple(dict.fromkeys(asked))
    wanted: dict[str, None] = {}
    for blob in net.outputs:
        layer = net.producer(net.finals[blob])
        if layer is None or layer.type in FED_TYPES:
            continue
        wanted.update(dict.fromkeys([layer.bottoms[0]] if _judges(layer) else [blob]))
    if not wanted:
        raise UsageError("the net computes nothing from its inputs", file=net.file, cure="name blobs with --blobs")
    return tuple(wanted)


def _judges(layer: LayerSpec) -> bool:
    """Whether a layer compares its first bottom with labels: nobody who runs the net has those."""
    return (layer.type == "Accuracy" or is_loss(layer.type)) and len(layer.bottoms) > 1


def refuse(
    job: ExportJob, says_no: Callable[[Role, Format], str], cure: str, layers: frozenset[str] | None = None
) -> None:
    """Refuse formats that a target has no words for.

    Args:
        job: the net.
        says_no: why a format in a role is none of the target's; "" where it is.
        cure: what the user can do.
        layers: the types of the layers to look at; None for all.

    Raises:
        NetError: a layer has such a format.
    """
    for layer in job.net.layers:
        formats = job.simulation.formats.get(layer.name, LayerFormats())
        for role in ROLES:
            fmt = formats.at(role)
            why = "" if fmt is None or (layers is not None and layer.type not in layers) else says_no(role, fmt)
            if why:
                what = f"target {job.options.target} cannot hold its {ROLE_NAMES[role]}: {why}"
                raise layer.view.error(what, cure=cure, field="quantization_param")


def no_fixed_point(fmt: Format) -> str:
    """Why a format is no fixed point; "" where it is."""
    if isinstance(fmt, Minifloat):
        return f"floating point, {fmt}"
    return f"powers of two, {fmt}" if isinstance(fmt, PowerOfTwo) else ""


def widest(fmt: Format) -> int:
    """The bits of a fixed point format; 0 of any other."""
    return fmt.bw if isinstance(fmt, DynamicFixedPoint) else 0


def lowered(
    job: ExportJob,
    fed: Mapping[str, Shape],
    blobs: tuple[str, ...],
    simulation: Simulation,
    marks: Callable[[], Marks] | None = None,
) -> Export:
    """The net as a checked ONNX model; see ``graph.export.export``."""
    exported = export_onnx(job.net, job.weights, fed, blobs, simulation, job.options.batch, marks)
    exported.model.producer_version = job.options.version
    exported.model.doc_string = f"target {job.options.target} of {Path(job.net.file).name}"
    return exported


def held_batch(job: ExportJob, exported: Export) -> list[str]:
    """A warning where the model's batch could not be left open."""
    if job.options.batch is not None or exported.batch is None:
        return []
    names = ", ".join(f"'{name}'" for name in exported.at_fault[:5])
    return [f"the batch stays {exported.batch}" + (f": it is part of layers {names}" if names else "")]


def about(job: ExportJob, model: onnx.ModelProto) -> dict[str, Any]:
    """What a report says of a model, whatever the target."""
    return {
        "target": job.options.target,
        "version": job.options.version,
        "net": job.net.name,
        "model": MODEL,
        "opsets": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "inputs": {info.name: _shape(info) for info in model.graph.input},
        "outputs": {info.name: _shape(info) for info in model.graph.output},
    }


def write_folder(job: ExportJob, model: bytes, report: Mapping[str, Any]) -> None:
    """Write the model and its report, both or none.

    Raises:
        UsageError: they cannot be written.
    """
    with atomic_folder(job.options.output, _read(job), MODEL, force=job.options.force) as folder:
        (folder / MODEL).write_bytes(model)
        (folder / REPORT).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def shape_lines(model: onnx.ModelProto) -> list[str]:
    """Inputs and outputs, a line each."""
    return [
        f"{kind} {info.name}: {' x '.join(map(str, _shape(info))) or 'scalar'}"
        for kind, infos in (("input", model.graph.input), ("output", model.graph.output))
        for info in infos
    ]


def _shape(info: onnx.ValueInfoProto) -> list[int | str]:
    dims = info.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims]


def _read(job: ExportJob) -> list[Path]:
    given = job.options.inputs
    return [job.options.model, *job.options.weights, *([given] if given is not None else [])]
