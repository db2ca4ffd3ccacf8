"""ONNX models with QONNX's Quant nodes (docs/export.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ristretto.export.job import Exported, ExportJob
from ristretto.export.onnx_model import (
    about,
    check_output,
    held_batch,
    lowered,
    no_fixed_point,
    refuse,
    shape_lines,
    wanted_blobs,
    write_folder,
)
from ristretto.graph.marked import Marks
from ristretto.graph.qonnx import state_shapes, write_quant
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.numerics.rounding import Rounding


def export_qonnx(job: ExportJob) -> Exported:
    """Write a model in which every rounding, of values, weights and biases, is a Quant.

    Raises:
        RistrettoError: a format is no fixed point, a layer rounds otherwise than half to even, or the folder cannot be
            written.
    """
    check_output(job)
    refuse(job, lambda _role, fmt: no_fixed_point(fmt), "give it a fixed point format")
    _check_rounding(job)
    fed, warnings = job.shapes()
    simulation = replace(job.simulation, arithmetic=Arithmetic.FLOAT32)
    exported = lowered(job, fed, wanted_blobs(job), simulation, lambda: Marks(write_quant))
    state_shapes(exported.model)
    data = exported.model.SerializeToString()
    nodes = Counter(node.op_type for node in exported.model.graph.node)
    report = {**about(job, exported.model), "nodes": dict(sorted(nodes.items())), "bytes": len(data)}
    write_folder(job, data, report)
    lines = [*shape_lines(exported.model), f"{nodes['Quant']} Quant nodes, {len(data)} bytes"]
    return Exported(tuple(lines), (*warnings, *held_batch(job, exported)))


def _check_rounding(job: ExportJob) -> None:
    for layer in job.net.layers:
        formats = job.simulation.formats.get(layer.name)
        rounding = None if formats is None else formats.rounding or job.simulation.rounding
        if rounding not in (None, Rounding.HALF_EVEN):
            what = f"it rounds {rounding.value}, and QONNX's Quant is written for half_even"
            raise layer.view.error(what, cure="use --rounding half_even", field="quantization_param")
