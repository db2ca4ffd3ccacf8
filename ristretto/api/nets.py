"""Jobs that run nets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ristretto.api.given import net_options, path_or_none, paths_of
from ristretto.keywords import (
    DoctorKeywords,
    FinetuneKeywords,
    NetKeywords,
    PathLike,
    Paths,
    QuantizeKeywords,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ristretto.pipeline.net import Net
    from ristretto.report.comparison import Comparison
    from ristretto.report.findings import Diagnosis
    from ristretto.report.model import Evaluation, Report
    from ristretto.report.training import Training
    from ristretto.report.verification import Verification


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
    made = QuantizeOptions(Path(model), paths_of(weights), **given)
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

    made = net_options(model, weights, cast(dict[str, Any], options), "compare")
    return compare_nets(made, Path(against), paths_of(against_weights), images)


def doctor(model: PathLike, weights: Paths = (), **options: Unpack[DoctorKeywords]) -> Diagnosis:
    """Find all that would go wrong with a net before anything runs (docs/doctor.md).

    Args:
        model: the prototxt.
        weights: its weights file or files; () leaves out what needs them.
        **options: the flags of ``ristretto doctor`` (``ristretto.keywords.DoctorKeywords``); ``quick_score=False`` does
            not run the float net.

    Returns:
        the findings, each with its severity, place and cure: ``diagnosis.of("error")`` are those that would stop a job.

    Raises:
        RistrettoError: an option that there is not; what is wrong with the net is a finding, not an error.
    """
    from ristretto.pipeline.doctor import DoctorOptions, diagnose
    from ristretto.pipeline.given import check_names, option_names

    given = cast(dict[str, Any], options)
    check_names(given, option_names(DoctorOptions)[2:], "doctor")
    return diagnose(DoctorOptions(Path(model), paths_of(weights), **given))


def finetune_net(solver: PathLike, weights: Paths = (), **options: Unpack[FinetuneKeywords]) -> Training:
    """Train a net as it is quantized: ``ristretto finetune`` (docs/finetune.md). It needs the extra ``finetune``.

    Args:
        solver: the solver prototxt, which names the net and says where snapshots go.
        weights: the weights file or files to start from; () for those that the solver names.
        **options: the flags of ``ristretto finetune`` (``ristretto.keywords.FinetuneKeywords``).

    Returns:
        losses, scores, and the weights file that was written last. Ctrl-C is a ``KeyboardInterrupt`` here: what was not
        in a snapshot is lost.

    Raises:
        RistrettoError: a mistake in what was given, or a loss that is no number any more.
    """
    from ristretto.pipeline.finetune import FinetuneOptions
    from ristretto.pipeline.finetune import finetune as train
    from ristretto.pipeline.given import check_names, option_names

    given = cast(dict[str, Any], options)
    check_names(given, option_names(FinetuneOptions)[2:], "finetune_net")
    return train(FinetuneOptions(Path(solver), paths_of(weights), **given))


def verify(
    report: PathLike, tolerance: float = 1e-6, *, untrusted: bool = False, data_root: PathLike | None = None
) -> Verification:
    """Run the job of a report again and compare all that comes out (docs/report.md).

    Args:
        report: the JSON that ``quantize``, ``test`` or ``finetune`` wrote; relative paths in it count from the current
            folder.
        tolerance: how far floats may be apart, relative to the larger.
        untrusted: whether to refuse a report that names code, or files outside its folder and ``data_root``.
        data_root: a further folder for that.

    Returns:
        what was compared and what differs; ``verification.holds`` says whether it is all the same.

    Raises:
        RistrettoError: the report cannot be read, or its job cannot be run again.
    """
    from ristretto.pipeline.verify import verify as verify_report

    return verify_report(Path(report), tolerance, untrusted=untrusted, data_root=path_or_none(data_root))


def _load(model: PathLike, weights: Paths, given: dict[str, Any], function: str) -> Net:
    from ristretto.pipeline.net import Net

    return Net.load(net_options(model, weights, given, function))
