"""The jobs of the command line as functions, with the same names and the same defaults.

Nothing is printed. Whatever a user can get wrong is raised as a ``RistrettoError`` whose text is the line that the
program would print. Heavy modules are imported when a function is called, so that ``import ristretto`` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ristretto.keywords import ConvertKeywords, NetKeywords, PathLike, Paths, Phase, QuantizeKeywords

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ristretto.caffe.fold import Folded
    from ristretto.pipeline.convert import Converted
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.files import Applied, Upgraded
    from ristretto.pipeline.net import Formats, Net
    from ristretto.report.comparison import Comparison
    from ristretto.report.inspection import NetFacts
    from ristretto.report.model import Evaluation, Report

__all__ = [
    "apply",
    "compare",
    "convert",
    "evaluate",
    "fold",
    "inspect",
    "load_net",
    "quantize",
    "run",
    "upgrade",
    "write_page",
    "write_report",
]


def quantize(model: PathLike, weights: Paths, **options: Unpack[QuantizeKeywords]) -> Report:
    """Quantize a net: score it, measure ranges, search bit-widths, write the result.

    Args:
        model: the float net's prototxt, with data layers for its images.
        weights: its weights file, or several, of which later ones override.
        **options: the flags of ``ristretto quantize`` (``ristretto.keywords.QuantizeKeywords``), such as
            ``model_quantized`` (where to write the quantized prototxt; None writes none), ``iterations`` (batches per
            score, 50; None or "all" for every image), ``error_margin`` (the allowed drop in percent points, 2),
            ``bw_activations`` (bits; not searched then), ``report`` (where to write the JSON, docs/report.md).

    Returns:
        what was found out, as frozen dataclasses: ``report.baseline.score``, ``report.combined.score``,
        ``report.margin_met``, ``report.plan.layers["conv1"].params`` ...

    Raises:
        RistrettoError: a mistake in what was given; no file is left half written.
    """
    from ristretto.pipeline.given import check_names, option_names
    from ristretto.pipeline.options import QuantizeOptions
    from ristretto.pipeline.quantize import quantize as quantize_net

    given = cast(dict[str, Any], options)
    check_names(given, option_names(QuantizeOptions)[2:], "quantize")
    if given.get("report") is not None or given.get("html") is not None:
        given.setdefault("details", True)
    if given.get("iterations") == "all":
        given["iterations"] = None
    made = QuantizeOptions(Path(model), _paths(weights), **given)
    return quantize_net(made)


def evaluate(
    model: PathLike,
    weights: Paths = (),
    iterations: int | Literal["all"] | None = 50,
    score: str | None = None,
    *,
    score_script: str | None = None,
    **options: Unpack[NetKeywords],
) -> Evaluation:
    """Score a net, quantized or not, on its own data: ``ristretto test``.

    Args:
        model: the prototxt; a quantized one is simulated to the letter.
        weights: its weights file or files.
        iterations: batches to score; None or "all" scores every image once.
        score: the blob that decides; None takes the first output.
        score_script: "module:function", a metric of your own over outputs and labels.
        **options: how it is simulated (``ristretto.keywords.NetKeywords``).

    Returns:
        the score and every output blob, means over the images.

    Raises:
        RistrettoError: a mistake in what was given, or a net that computes no score.
    """
    net = _load(model, weights, cast(dict[str, Any], options), "evaluate")
    return net.evaluate(iterations, score, score_script=score_script)


def run(
    model: PathLike,
    weights: Paths = (),
    blobs: Sequence[str] | Literal["all"] | None = None,
    batch: int = 0,
    **options: Unpack[NetKeywords],
) -> dict[str, NDArray[np.floating[Any]]]:
    """Run one batch through a net; ``load_net(...).run`` does not load it anew for the next one.

    Args:
        model: the prototxt.
        weights: its weights file or files.
        blobs: the blobs wanted; None for the outputs, "all" for every one.
        batch: which batch of the net's own data, from 0.
        **options: how it is simulated (``ristretto.keywords.NetKeywords``), such as ``inputs``, an npz file in place of
            the net's own data.

    Returns:
        what each blob holds after the forward pass, in Caffe's order of axes (N, C, H, W): float32, or float64 with
        ``arithmetic="float64"``.

    Raises:
        RistrettoError: a mistake in what was given.
    """
    return _load(model, weights, cast(dict[str, Any], options), "run").run(None, blobs, batch)


def load_net(model: PathLike, weights: Paths = (), **options: Unpack[NetKeywords]) -> Net:
    """Load a net to run it as often as you like, with arrays or its own data, and with other formats.

    Args:
        model: the prototxt; a quantized one has the formats that it states.
        weights: its weights file or files; later ones override.
        **options: how it is simulated (``ristretto.keywords.NetKeywords``): ``phase`` ("TEST"), ``rounding``
            ("half_even"), ``arithmetic`` ("float32"), ``data_root``, ``threads``, ``gpu`` ...

    Raises:
        RistrettoError: a mistake in what was given.
    """
    return _load(model, weights, cast(dict[str, Any], options), "load_net")


def apply(
    model: PathLike,
    formats: Formats,
    output: PathLike,
    *,
    dialect: Literal["extended", "original", "chaidnn", "intel", "accdnn"] = "extended",
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
    return apply_formats(Path(model), plan, Path(output), dialect, tuple(map(str, _paths(plugins))))


def compare(
    model: PathLike,
    weights: Paths,
    against: PathLike,
    against_weights: Paths = (),
    images: int = 64,
    **options: Unpack[NetKeywords],
) -> Comparison:
    """Compare two nets layer by layer on the same images (docs/comparing.md).

    Args:
        model: the first net, usually the float one.
        weights: its weights file or files.
        against: the second net, usually quantized.
        against_weights: its weights; none for those of the first.
        images: how many images to look at.
        **options: how both are simulated (``ristretto.keywords.NetKeywords``).

    Returns:
        signal to noise ratios in dB and shares of saturated values, for each layer that both have.

    Raises:
        RistrettoError: a mistake in what was given, or nets that have no layer in common.
    """
    from ristretto.pipeline.compare import compare as compare_nets

    made = _net_options(model, weights, cast(dict[str, Any], options), "compare")
    return compare_nets(made, Path(against), _paths(against_weights), images)


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
    return convert_net(ConvertOptions(Path(model), _paths(weights), Path(output), version=VERSION, **given))


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
    return fold_files(Path(model), _paths(weights), Path(output), Path(output_weights), phase, level, tuple(stages))


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
    names = tuple(map(str, _paths(plugins)))
    return inspect_net(Path(model), _paths(weights), phase, root, names, level, tuple(stages))


def write_report(report: Report | Evaluation, path: PathLike) -> None:
    """Write a report, or a score, as JSON (docs/report.md); ``apply`` reads the former.

    Args:
        report: what ``quantize`` or ``evaluate`` returned.
        path: where to.

    Raises:
        RistrettoError: it cannot be written.
    """
    from ristretto.atomic import atomic_write_text
    from ristretto.report.jsonfile import dump, evaluation_to_json, report_to_json
    from ristretto.report.model import Report
    from ristretto.version import VERSION

    data = report_to_json(report, VERSION) if isinstance(report, Report) else evaluation_to_json(report, VERSION)
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


def _paths(given: Paths) -> tuple[Path, ...]:
    return tuple(map(Path, [given] if isinstance(given, (str, Path)) else given))


def _load(model: PathLike, weights: Paths, given: dict[str, Any], function: str) -> Net:
    from ristretto.pipeline.net import Net

    return Net.load(_net_options(model, weights, given, function))


def _net_options(model: PathLike, weights: Paths, given: dict[str, Any], function: str) -> NetOptions:
    from ristretto.pipeline.evaluate import NetOptions
    from ristretto.pipeline.given import check_names, option_names

    check_names(given, option_names(NetOptions)[2:], function)
    return NetOptions(Path(model), _paths(weights), **given)
