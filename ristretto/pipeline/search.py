"""The searches of the three trimming modes: from what is known of the layers to a plan and its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ristretto.caffe.weights import Weights
from ristretto.decide.choose import minifloat_exp_bits
from ristretto.decide.mixed import MixedSearch
from ristretto.decide.plan import (
    LayerSites,
    QuantPlan,
    Widths,
    dynamic_fixed_point_plan,
    minifloat_plan,
    power_of_two_plan,
)
from ristretto.decide.search import FALLBACK_BW, Ladder, descend, holds, widened, widest_loss, with_estimates
from ristretto.errors import UsageError
from ristretto.numerics.formats import NAMED, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import Role
from ristretto.pipeline.job import Job
from ristretto.pipeline.mixed import mixed_plan, mixed_search
from ristretto.pipeline.options import DIALECT_WIDTHS, POWER_OF_TWO_ACTIVATIONS_BW
from ristretto.report.events import LengthsChosen, Widened
from ristretto.report.model import Scored

Sites = dict[str, LayerSites]

_FLOAT32 = Minifloat(exp_bits=8, mant_bits=23)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    Attributes:
        ladders: what was tried, by group.
        plan: the formats chosen.
        combined: the score of the net with them.
        mixed: the search for a width of every layer, where it was asked for.
        weights: the weights that belong to the result; None for those of the float net.
        replan: the plan with the same widths for what else may be known of the layers.
    """

    ladders: dict[str, Ladder]
    plan: QuantPlan
    combined: Scored
    weights: Weights | None = None
    mixed: MixedSearch | None = None
    replan: Callable[[Sites], QuantPlan] | None = None


def search(job: Job, sites: Sites, baseline: Scored) -> Outcome:
    """Search in the job's trimming mode, against the float net."""
    if job.options.trimming_mode == "minifloat":
        return _minifloat(job, sites, baseline)
    if job.options.trimming_mode == "integer_power_of_2_weights":
        return _power_of_two(job, sites)
    return _dynamic_fixed_point(job, sites, baseline)


def _dynamic_fixed_point(job: Job, sites: Sites, float_net: Scored) -> Outcome:
    """Three searches of one group each, then the score of all together (Quantize2DynamicFixedPoint)."""
    options, scheme = job.options, job.options.scheme
    baseline, early, margin = float_net.score, job.scoring.early(float_net), options.error_margin / 100
    # Lengths that were fitted to a width differ from width to width; the log has room for those of one.
    shown_bw = 8 if 8 in options.activation_widths else max(options.activation_widths, default=8)
    for name, site in sites.items():
        if site.group != "other":
            lengths = site.at(shown_bw)
            job.listener(LengthsChosen(name, lengths.input, lengths.output, lengths.params))
    if options.search == "mixed":
        mixed, plan, combined = mixed_search(job, sites, baseline)
        chosen = (mixed.chosen or mixed.scored[0]).point.widths

        def replan(sites: Sites) -> QuantPlan:
            return mixed_plan(job, sites, chosen)

        return Outcome({}, plan, combined, job.weights_for(plan), mixed, replan)
    if options.dialect in DIALECT_WIDTHS:
        bw = max(options.ladder_of("activations"))
        job.result(dynamic_fixed_point_plan(sites, Widths(bw, bw, bw), scheme))  # fails now rather than at the end
    static_bw = None if scheme.static is None else scheme.static.bw
    asked: list[tuple[str, bool, int | None, Callable[[int], Widths]]] = [
        ("conv", _quantized(job, "conv", "params"), options.bw_conv_params, lambda bw: Widths(conv_params=bw)),
        ("fc", _quantized(job, "fc", "params"), options.bw_fc_params, lambda bw: Widths(fc_params=bw)),
        (
            "activations",
            _quantized(job, None, "in", "out"),
            options.bw_activations or static_bw,
            lambda bw: Widths(activations=bw),
        ),
    ]
    ladders = {}
    for group, present, fixed, widths in asked:
        if not present:
            continue
        if fixed is not None:
            ladders[group] = Ladder((), fixed)
            continue

        tried: dict[int, Scored] = {}

        def evaluate(
            bw: int,
            group: str = group,
            widths: Callable[[int], Widths] = widths,
            tried: dict[int, Scored] = tried,
        ) -> float:
            plan = job.candidate(dynamic_fixed_point_plan(sites, widths(bw), scheme))
            weights_for = None if group == "activations" else job.weights_for
            tried[bw] = job.scoring.score(plan, f"{group} {bw} bit", weights_for, early, judged=False)
            return tried[bw].score

        ladder = descend(evaluate, baseline=baseline, margin=margin, widths=options.ladder_of(group))
        ladders[group] = with_estimates(ladder, _estimated(tried, float_net))
    keep_float = options.preset == "recommended"

    def combine(ladders: dict[str, Ladder]) -> Outcome:
        widths = _chosen_widths(ladders, keep_float=keep_float)

        def replan(sites: Sites) -> QuantPlan:
            return job.result(dynamic_fixed_point_plan(sites, widths, scheme))

        plan = replan(sites)
        weights = job.weights_for(plan)
        combined = job.scoring.score(plan, "combined", lambda _: weights)
        return Outcome(ladders, plan, combined, weights, replan=replan)

    outcome = combine(ladders)
    while options.preset == "recommended" and not holds(outcome.combined.score, baseline, margin):
        lost = widest_loss(ladders)
        if lost is None:
            break
        wider = widened(ladders[lost])
        if options.dialect in DIALECT_WIDTHS and wider.chosen not in options.ladder_of(lost):
            break  # the dialect has no such width: the report says that the margin is missed
        ladders = {**ladders, lost: wider}
        job.listener(Widened(lost, ladders[lost].chosen))
        outcome = combine(ladders)
    return outcome


def _quantized(job: Job, group: str | None, *roles: Role) -> bool:
    """Whether any selected site is of this group and one of these roles."""
    selection = job.options.selection
    return any(
        selection.takes(layer.name, layer.type, role)
        for layer in job.layers
        if group is None or job.groups[layer.name] == group
        for role in roles
    )


def _chosen_widths(ladders: dict[str, Ladder], *, keep_float: bool) -> Widths:
    """The widths of the combined net.

    A group for which no width held falls back to 32 bits. The original gives it the integer lengths all the same, which
    saturate; with ``keep_float`` it stays as the partial searches leave it, nearly float.
    """
    chosen = {
        group: None if keep_float and ladder.trials and ladder.chosen == FALLBACK_BW else ladder.chosen
        for group, ladder in ladders.items()
    }
    return Widths(chosen.get("conv"), chosen.get("fc"), chosen.get("activations"))


def _estimated(tried: dict[int, Scored], baseline: Scored) -> dict[int, int]:
    """The widths that were dropped before all images were scored, each with how many were."""
    return {bw: scored.images for bw, scored in tried.items() if scored.images < baseline.images}


def _minifloat(job: Job, sites: Sites, baseline: Scored) -> Outcome:
    """One ladder of total widths with the exponent bits that the activations need (Quantize2MiniFloat)."""
    options = job.options
    if options.float_format is not None:
        return _given_minifloat(job, sites, NAMED[options.float_format])
    stats = [stats for site in sites.values() for stats in (site.ranges.input, site.ranges.output)]
    exp_bits = minifloat_exp_bits(stats) if options.exp_bits is None else options.exp_bits
    if options.mant_bits is not None:
        return _given_minifloat(job, sites, Minifloat(exp_bits, options.mant_bits))
    widths = [bw for bw in options.ladder if 0 < bw - 1 - exp_bits <= _FLOAT32.mant_bits]
    if not widths:
        what = f"no width of the ladder leaves room for a mantissa beside {exp_bits} exponent bits"
        raise UsageError(what, cure=f"give --ladder {exp_bits + 4} or more, or fewer --exp_bits")
    tried: dict[int, tuple[QuantPlan, Scored]] = {}
    early = job.scoring.early(baseline)

    def evaluate(bw: int) -> float:
        plan = job.candidate(minifloat_plan(sites, Minifloat(exp_bits, bw - 1 - exp_bits)))
        tried[bw] = plan, job.scoring.score(plan, f"minifloat {bw} bit", early=early)
        return tried[bw][1].score

    ladder = descend(evaluate, baseline=baseline.score, margin=options.error_margin / 100, widths=widths)
    estimated = _estimated({bw: scored for bw, (_, scored) in tried.items()}, baseline)
    ladder = with_estimates(ladder, estimated)
    if ladder.chosen not in tried or ladder.chosen in estimated:
        plan = job.candidate(minifloat_plan(sites, _FLOAT32))
        tried[ladder.chosen] = plan, job.scoring.score(plan, "minifloat 32 bit")
    plan, combined = tried[ladder.chosen]
    return Outcome({"minifloat": ladder}, plan, combined)


def _given_minifloat(job: Job, sites: Sites, fmt: Minifloat) -> Outcome:
    plan = job.candidate(minifloat_plan(sites, fmt))
    return Outcome({"minifloat": Ladder((), fmt.bw)}, plan, job.scoring.score(plan, f"minifloat {fmt}"))


def _power_of_two(job: Job, sites: Sites) -> Outcome:
    """Nothing is searched: one format for the weights, eight bits for activations (Quantize2IntegerPowerOf2Weights)."""
    options = job.options
    weights = PowerOfTwo(options.exp_min, options.exp_max, options.keep_zero)
    (bw,) = options.activation_widths or (POWER_OF_TWO_ACTIVATIONS_BW,)
    plan = job.candidate(power_of_two_plan(sites, weights, bw, options.scheme.static))
    codes = options.exp_max - options.exp_min + 1 + options.keep_zero
    weights_bw = 1 + (codes - 1).bit_length()
    return Outcome({"weights": Ladder((), weights_bw)}, plan, job.scoring.score(plan, "power of two weights"))
