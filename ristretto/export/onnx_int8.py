"""ONNX models with QuantizeLinear and DequantizeLinear (docs/export.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ristretto.errors import DataError, UsageError
from ristretto.export.job import Batch, Exported, ExportJob
from ristretto.export.measure import (
    Agreement,
    Kernels,
    Speed,
    agreement,
    as_fields,
    images_in,
    kernels_of,
    pieces,
    speed,
)
from ristretto.export.onnx_model import (
    about,
    check_output,
    held_batch,
    lowered,
    no_fixed_point,
    refuse,
    shape_lines,
    wanted_blobs,
    widest,
    write_folder,
)
from ristretto.graph.build import Simulation
from ristretto.graph.export import Export
from ristretto.graph.integer import LINEAR_TYPES
from ristretto.graph.integer_checks import WIDEST_ACTIVATION
from ristretto.graph.marked import Marks
from ristretto.graph.qdq import QdqWriter
from ristretto.numerics.formats import Format, PowerOfTwo
from ristretto.numerics.layer_formats import Role
from ristretto.numerics.rounding import Rounding
from ristretto.runtime.stock import StockSession


def export_int8(job: ExportJob) -> Exported:
    """Write a model that onnxruntime runs on integer kernels, and say how it compares with the float model.

    Raises:
        RistrettoError: a format is no fixed point, or the folder cannot be written.
    """
    return _export(job, lambda: Marks(QdqWriter(centred=True)))


def export_qcdq(job: ExportJob) -> Exported:
    """Write a model in which a Clip tells of fewer than 8 bits, and signed values have the zero point 0.

    Raises:
        RistrettoError: a format is no fixed point, or the folder cannot be written.
    """
    return _export(job, lambda: Marks(QdqWriter(widest=16), weights_bw=16, proved=False, clipped_weights=True))


def _says_no(role: Role, fmt: Format) -> str:
    if isinstance(fmt, PowerOfTwo) and role == "params":
        return ""
    if role in ("in", "out") and widest(fmt) > WIDEST_ACTIVATION:
        return f"{widest(fmt)} bits, {fmt}, and values are float32, which holds {WIDEST_ACTIVATION}"
    return no_fixed_point(fmt)


def _export(job: ExportJob, marks: Callable[[], Marks]) -> Exported:
    check_output(job)
    refuse(job, _says_no, f"give it a fixed point format of at most {WIDEST_ACTIVATION} bits")
    _refuse_floats(job)
    _refuse_draws(job)
    blobs = wanted_blobs(job)
    fed, warnings = job.shapes()
    exported = lowered(job, fed, blobs, job.simulation, marks)
    floats = lowered(job, fed, blobs, Simulation(seed=job.simulation.seed))
    data, float_data = (part.model.SerializeToString() for part in (exported, floats))
    session = StockSession(data)
    measured = _measure(job, exported, session, float_data, blobs)
    report = _report(job, exported, (len(data), len(float_data)), measured)
    write_folder(job, data, report)
    lines = [*shape_lines(exported.model), *_lines(report, measured)]
    return Exported(tuple(lines), (*warnings, *held_batch(job, exported), *measured.warnings))


def _refuse_floats(job: ExportJob) -> None:
    """Refuse layers of products and sums of which only a part has a format: integers cannot compute them."""
    for layer in job.net.layers:
        formats = job.simulation.formats.get(layer.name)
        if formats is None or layer.type not in LINEAR_TYPES:
            continue
        parts = {"input": formats.input, "weights": formats.params, "output": formats.output}
        missing = [name for name, fmt in parts.items() if fmt is None]
        if missing and len(missing) < len(parts):
            what = f"target {job.options.target} computes this layer on integers: its {missing[0]} is float"
            cure = "give it a format, or leave the whole layer float"
            raise layer.view.error(what, cure=cure, field="quantization_param")


def _refuse_draws(job: ExportJob) -> None:
    for layer in job.net.layers:
        formats = job.simulation.formats.get(layer.name)
        if formats is not None and (formats.rounding or job.simulation.rounding) is Rounding.STOCHASTIC:
            what = "it rounds stochastic, which no model can repeat"
            raise layer.view.error(what, cure="choose another rounding", field="quantization_param")


class _Measured:
    """What was measured, as far as there were images."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels
        self.agreement: Agreement | None = None
        self.speed: Speed | None = None
        self.warnings: list[str] = []


def _measure(
    job: ExportJob, exported: Export, session: StockSession, float_data: bytes, blobs: tuple[str, ...]
) -> _Measured:
    measured = _Measured(kernels_of(session))
    batch = _images(job, exported, measured)
    if batch is None:
        return measured
    shapes = {blob: array.shape for blob, array in batch.items()}
    reference = lowered(job, shapes, blobs, job.simulation).model
    if exported.batch not in (None, images_in(batch)):
        measured.warnings.append(f"not compared with integer arithmetic: that takes {exported.batch} images")
        return measured
    parts = pieces(batch) if exported.batch is None else [batch]
    measured.agreement = agreement(session, reference, parts)
    measured.speed = speed(session, StockSession(float_data), parts)
    if measured.agreement.differing:
        found = measured.agreement
        measured.warnings.append(
            f"{found.differing} of {found.values} values differ from integer arithmetic, by up to {found.largest:g}: "
            + _suspect(exported)
        )
    return measured


def _suspect(exported: Export) -> str:
    written = exported.marks.layers if exported.marks is not None else {}
    risky = [name for name, layer in written.items() if layer.needs_integers]
    if risky:
        return f"layer '{risky[0]}' has sums of more than 24 bits, which kernels for floats round"
    return "this processor has no exact integer kernels (docs/export.md)"


def _images(job: ExportJob, exported: Export, measured: _Measured) -> Batch | None:
    """The images to measure with; None, and a warning, where there are none and nobody asked for any."""
    options = job.options
    try:
        return job.images(exported.batch or options.images)
    except (DataError, UsageError) as error:
        if options.inputs is not None:
            raise
        measured.warnings.append(f"not compared with integer arithmetic, there are no images: {error}")
        return None


def _report(job: ExportJob, exported: Export, sizes: tuple[int, int], measured: _Measured) -> dict[str, Any]:
    marks = exported.marks
    layers = {} if marks is None else marks.layers
    return {
        **about(job, exported.model),
        "layers": [
            {
                "name": name,
                "way": layer.way,
                "reason": layer.reason,
                "needs_integer_kernels": layer.needs_integers,
            }
            for name, layer in layers.items()
        ],
        "kernels": as_fields(measured.kernels),
        "bytes": sizes[0],
        "float_bytes": sizes[1],
        "speed": as_fields(measured.speed),
        "agreement": as_fields(measured.agreement),
    }


def _lines(report: dict[str, Any], measured: _Measured) -> list[str]:
    ways = [layer["way"] for layer in report["layers"]]
    share = report["bytes"] / report["float_bytes"]
    lines = [
        f"layers of products and sums: {len(ways)}, {ways.count('integer')} of them for integer kernels; "
        f"onnxruntime here runs {measured.kernels.products} on integers",
        f"size: {report['bytes']} bytes, {100 * share:.1f} % of the float model's {report['float_bytes']}",
    ]
    if measured.speed is not None:
        found = measured.speed
        mine, theirs = (1000 * seconds / found.images for seconds in (found.seconds, found.float_seconds))
        lines.append(
            f"speed: {mine:.3f} ms an image, float {theirs:.3f} ms ({theirs / mine:.2f} times as fast), "
            f"{found.images} images, {found.batch} at once"
        )
    if measured.agreement is not None:
        one = measured.agreement
        what = "all equal to integer arithmetic" if not one.differing else f"{one.differing} differ"
        lines.append(f"agreement: {one.values} values of {one.images} images, {what}")
    return lines
