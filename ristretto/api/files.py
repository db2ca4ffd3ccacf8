"""Jobs that make files of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ristretto.api.given import paths_of
from ristretto.keywords import (
    ConvertKeywords,
    DialectName,
    ExportKeywords,
    InitKeywords,
    PathLike,
    Paths,
    Phase,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ristretto.caffe.fold import Folded
    from ristretto.pipeline.convert import Converted
    from ristretto.pipeline.export import Exported
    from ristretto.pipeline.files import Applied, Redone, Upgraded
    from ristretto.pipeline.init import Initialised
    from ristretto.pipeline.net import Formats
    from ristretto.report.inspection import NetFacts
    from ristretto.report.model import Evaluation, Report
    from ristretto.report.training import Training


def apply(
    model: PathLike,
    formats: Formats,
    output: PathLike,
    *,
    dialect: DialectName = "extended",
    plugins: Paths = (),
) -> Applied:
    """Write number formats into any prototxt; nothing else in it changes.

    Args:
        model: the prototxt, such as the deploy net.
        formats: a report or its file, a file of formats (docs/report.md), or formats by layer name (``Net.formats``).
        output: where to write the new prototxt.
        dialect: the reader it is written for (docs/dialects.md); "original" keeps to what the C++ tool knows.
        plugins: modules that teach layer types (docs/plugins.md).

    Returns:
        names of the layers that were given formats, and of those that the prototxt lacks.

    Raises:
        RistrettoError: none of the layers is there, a format cannot be said, or a file cannot be read or written.
    """
    from ristretto.decide.plan import QuantPlan
    from ristretto.dialects.fields import Dialect
    from ristretto.pipeline.files import apply as apply_formats
    from ristretto.pipeline.given import fitted
    from ristretto.pipeline.net import plan_of

    fitted("dialect", Dialect, dialect)
    plan = Path(formats) if isinstance(formats, (str, Path)) else QuantPlan(plan_of(formats))
    return apply_formats(Path(model), plan, Path(output), dialect, tuple(map(str, paths_of(plugins))))


def convert(model: PathLike, weights: Paths, output: PathLike, **options: Unpack[ConvertKeywords]) -> Converted:
    """Write a net as an ONNX model (docs/converters.md).

    Args:
        model: the prototxt; a quantized one is converted with its roundings.
        weights: its weights file or files; () for a net without.
        output: where to write the model.
        **options: the flags of ``ristretto convert`` (``ristretto.keywords.ConvertKeywords``).

    Returns:
        the model's inputs and outputs with their shapes, its opset, how many nodes it has, and warnings.

    Raises:
        RistrettoError: a mistake in what was given, or a net that cannot be converted.
    """
    from ristretto.pipeline.convert import ConvertOptions
    from ristretto.pipeline.convert import convert as convert_net
    from ristretto.pipeline.given import check_names, option_names
    from ristretto.version import VERSION

    given = cast(dict[str, Any], options)
    check_names(given, [name for name in option_names(ConvertOptions)[3:] if name != "version"], "convert")
    return convert_net(ConvertOptions(Path(model), paths_of(weights), Path(output), version=VERSION, **given))


def convert_dialect(
    model: PathLike,
    output: PathLike,
    to: DialectName,
    source: Literal["auto"] | DialectName = "auto",
    *,
    nearest: bool = False,
    plugins: Paths = (),
) -> Redone:
    """Write a quantized prototxt for another reader (docs/dialects.md).

    Args:
        model: the quantized prototxt.
        output: where to write the new one.
        to: the dialect to write.
        source: the dialect it is in; "auto" goes by the names of its fields.
        nearest: whether the nearest setting is written where the dialect cannot say one.
        plugins: modules that teach layer types (docs/plugins.md).

    Returns:
        the dialect it was in, how many layers have formats, and what became another setting, in words.

    Raises:
        RistrettoError: a mistake in what was given, or something that the dialect cannot say.
    """
    from ristretto.dialects.fields import Dialect
    from ristretto.dialects.registry import Source
    from ristretto.pipeline.files import convert_dialect as convert
    from ristretto.pipeline.given import fitted

    fitted("to", Dialect, to)
    fitted("source", Source, source)
    names = tuple(map(str, paths_of(plugins)))
    return convert(Path(model), Path(output), to, source, nearest=nearest, plugins=names)


def export_net(
    model: PathLike, weights: Paths, output: PathLike, target: str = "hardware", **options: Unpack[ExportKeywords]
) -> Exported:
    """Write a quantized net for hardware and other runtimes: ``ristretto export`` (docs/export.md, docs/hardware.md).

    Args:
        model: the quantized prototxt.
        weights: its weights file or files; () for a net without.
        output: the folder to write, a new one unless ``force`` is given.
        target: "hardware", "onnx-int8", "qcdq", "qonnx", "caffe" or "caffe-integer".
        **options: the flags of ``ristretto export`` (``ristretto.keywords.ExportKeywords``).

    Returns:
        what to say of it, and warnings, a line each.

    Raises:
        RistrettoError: a mistake in what was given, or a net that the target cannot hold.
    """
    from ristretto.pipeline.export import ExportOptions, export
    from ristretto.pipeline.given import check_names, option_names
    from ristretto.version import VERSION

    given = cast(dict[str, Any], options)
    check_names(given, [name for name in option_names(ExportOptions)[4:] if name != "version"], "export_net")
    return export(ExportOptions(Path(model), paths_of(weights), Path(output), target, version=VERSION, **given))


def init(model: PathLike, images: PathLike, output: PathLike, **options: Unpack[InitKeywords]) -> Initialised:
    """Make a net that can be scored from a deploy net and images (docs/init.md).

    Args:
        model: the deploy prototxt.
        images: a folder, an image list or an LMDB.
        output: the prototxt to write.
        **options: the flags of ``ristretto init`` (``ristretto.keywords.InitKeywords``); ``mean_value`` is blue first.

    Returns:
        the files that were written, and what was chosen where nothing was said.

    Raises:
        RistrettoError: a mistake in what was given; nothing is written then.
    """
    from ristretto.pipeline.given import check_names, option_names
    from ristretto.pipeline.init import InitOptions, initialise

    given = cast(dict[str, Any], options)
    check_names(given, option_names(InitOptions)[3:], "init")
    return initialise(InitOptions(Path(model), Path(images), Path(output), **given))


def upgrade(
    model: PathLike, output: PathLike, weights: PathLike | None = None, output_weights: PathLike | None = None
) -> Upgraded:
    """Bring a V0 or V1 net, or a solver, to today's format, as Caffe does when it reads one.

    Args:
        model: the old prototxt.
        output: where to write the new one.
        weights: the old weights file, if that is to be upgraded too.
        output_weights: where to write the new one.

    Returns:
        what was done, in words.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    from ristretto.pipeline.files import upgrade as upgrade_files

    old = None if weights is None else Path(weights)
    new = None if output_weights is None else Path(output_weights)
    return upgrade_files(Path(model), Path(output), old, new)


def fold(
    model: PathLike,
    weights: Paths,
    output: PathLike,
    output_weights: PathLike,
    *,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
) -> Folded:
    """Fold BatchNorm, Scale and Bias into the layers before them (docs/folding.md).

    Args:
        model: the net's prototxt.
        weights: its weights file or files.
        output: where to write the new prototxt.
        output_weights: where to write the new .caffemodel.
        phase: of the state in which the net computes the same as before.
        level: of that state.
        stages: of that state.

    Returns:
        which layers were folded into which, and why others were not.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    from ristretto.pipeline.fold import fold as fold_files
    from ristretto.pipeline.given import fitted

    fitted("phase", Phase, phase)
    return fold_files(Path(model), paths_of(weights), Path(output), Path(output_weights), phase, level, tuple(stages))


def inspect(
    model: PathLike,
    weights: Paths = (),
    *,
    phase: Phase = "TEST",
    data_root: PathLike | None = None,
    plugins: Paths = (),
    level: int = 0,
    stages: Sequence[str] = (),
) -> NetFacts:
    """Look at a net: layers, shapes, parameters, operations and, with weights, their ranges.

    Args:
        model: the prototxt.
        weights: its weights file or files, if their ranges are wanted.
        phase: the phase to build the net in.
        data_root: a folder for relative sources.
        plugins: modules that teach layer types (docs/plugins.md).
        level: of the net's state, for its include and exclude rules.
        stages: of that state.

    Returns:
        the facts; shapes are empty where they cannot be known, and ``unknown_shapes`` says why.

    Raises:
        RistrettoError: the net or the weights cannot be read.
    """
    from ristretto.pipeline.given import fitted
    from ristretto.pipeline.inspect import inspect as inspect_net

    fitted("phase", Phase, phase)
    root = None if data_root is None else Path(data_root)
    names = tuple(map(str, paths_of(plugins)))
    return inspect_net(Path(model), paths_of(weights), phase, root, names, level, tuple(stages))


def write_report(report: Report | Evaluation | Training, path: PathLike) -> None:
    """Write a report as JSON (docs/report.md); ``apply`` reads that of a quantization, ``verify`` all.

    Args:
        report: what ``quantize``, ``evaluate`` or ``finetune_net`` returned.
        path: where to.

    Raises:
        RistrettoError: it cannot be written.
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.report.jsonfile import dump, evaluation_to_json, report_to_json
    from ristretto.report.model import Report
    from ristretto.report.training import Training, training_to_json
    from ristretto.version import VERSION

    if isinstance(report, Report):
        data = report_to_json(report, VERSION)
    elif isinstance(report, Training):
        data = training_to_json(report, VERSION)
    else:
        data = evaluation_to_json(report, VERSION)
    atomic_write_text(Path(path), dump(data))


def write_page(report: Report, path: PathLike) -> None:
    """Write a report as an HTML page (docs/html_report.md).

    Args:
        report: what ``quantize`` returned.
        path: where to.

    Raises:
        RistrettoError: it cannot be written.
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.report.html.page import report_page
    from ristretto.report.jsonfile import report_to_json
    from ristretto.version import VERSION

    atomic_write_text(Path(path), report_page(report_to_json(report, VERSION)))
