"""What a quantization works on: its options, the net, the weights and the data, opened and tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ristretto.atomic import check_again
from ristretto.caffe.confined import confined_to
from ristretto.caffe.equalize import equalize
from ristretto.caffe.fold import fold
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.caffe.nonnegative import nonnegative_values
from ristretto.caffe.parameters import with_shared
from ristretto.caffe.rules import NetState
from ristretto.caffe.stored import Stored, fed_values, stored_results
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import upgrade_net
from ristretto.caffe.weights import Weights, read_weights
from ristretto.data import Cache
from ristretto.decide.choose import LayerRanges, integer_lengths
from ristretto.decide.plan import Group, LayerSites, QuantPlan, group_of
from ristretto.decide.ranges_file import ValueRanges, ranges_from_json
from ristretto.decide.select import overridden
from ristretto.dialects.base import NOTHING_NEAR
from ristretto.dialects.prototxt import settle_plan
from ristretto.errors import FormatError, NetError
from ristretto.pipeline.calibrate import Calibration, channel_ils, measure_ranges, quantizable_layers, with_params
from ristretto.pipeline.compensate import Compensation, batches_to_look_at
from ristretto.pipeline.feed import Batch, Feed, open_feed
from ristretto.pipeline.files import read_json, read_plan_file
from ristretto.pipeline.fit import fitted_to_values, fitted_to_weights, with_fitted
from ristretto.pipeline.fit_outputs import OUTPUT_IMAGES, fitted_to_outputs
from ristretto.pipeline.options import DIALECT_WIDTHS, NARROW, QuantizeOptions, Treatment
from ristretto.pipeline.plugins import load_plugins
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.score import score_blob
from ristretto.pipeline.scorers import Scorer
from ristretto.pipeline.scoring import Scoring, open_scoring
from ristretto.pipeline.sound import check_weights
from ristretto.report.events import Equalized, Folded, Listener


@dataclass(frozen=True, slots=True)
class Job:
    """What all steps of one quantization share.

    Attributes:
        weights: those to quantize: folded and equalized, as far as that is asked for.
        plain_weights: the same before they were equalized.
        layers: those that are quantized.
        sums: the names of those that only store: they take their inputs as they are.
        scoring: scores the net and its candidates.
        cache: what was decoded so far.
    """

    options: QuantizeOptions
    document: Document
    net: NetSpec
    weights: Weights
    plain_weights: Weights
    feed: Feed
    calibration: Calibration
    layers: list[LayerSpec]
    sums: frozenset[str]
    scoring: Scoring
    overrides: QuantPlan
    given: Mapping[str, ValueRanges]
    warnings: tuple[str, ...]
    listener: Listener
    cache: Cache

    @property
    def groups(self) -> dict[str, Group]:
        """The group that each layer is searched with."""
        return {layer.name: group_of(layer.type) or "other" for layer in self.layers}

    @property
    def types(self) -> dict[str, str]:
        """The type of each layer to quantize."""
        return {layer.name: layer.type for layer in self.layers}

    @property
    def blob(self) -> str:
        """The name of the score that decides."""
        return self.scoring.blob

    @property
    def scorer(self) -> Scorer | None:
        """What judges passes in place of a blob."""
        return self.scoring.scorer

    def candidate(self, plan: QuantPlan) -> QuantPlan:
        """A plan as the user wants it: with the sites that are selected and the formats that are given."""
        return overridden(self.options.selection.restrict(plan, self.types), self.overrides)

    def result(self, plan: QuantPlan) -> QuantPlan:
        """A candidate for the result: in the nearest formats that the dialect has, so that what is scored is written.

        Raises:
            FormatError: the dialect has nothing near it.
        """
        plan, dialect = self.candidate(plan), self.options.dialect
        if dialect not in DIALECT_WIDTHS:
            return plan
        try:
            return settle_plan(self.document, plan, dialect)
        except FormatError as error:
            cure = "allow a larger --error_margin, choose widths by hand, or use --dialect extended"
            cure = cure if error.cure == NOTHING_NEAR else error.cure
            raise FormatError(error.what, layer=error.layer, file=self.net.file, cure=cure) from error

    def weights_for(self, plan: QuantPlan) -> Weights:
        """The weights to be rounded to a plan's formats."""
        return self.rounded_weights(plan, self.options.treatment)

    def rounded_weights(self, plan: QuantPlan, treatment: Treatment) -> Weights:
        """The weights to be rounded to a plan's formats, treated as if nothing else had been asked for."""
        if not treatment.compensate and not treatment.correct_biases:
            return self.weights
        batches = self.images_to_look_at(self.options.rounding_images)
        compensation = Compensation(
            self.net,
            self.weights,
            batches,
            self.options.threads,
            rounding=treatment.compensate,
            biases=treatment.correct_biases,
        )
        return compensation.apply(plan)

    def images_to_look_at(self, count: int) -> tuple[Batch, ...]:
        """Calibration images for the net as it is scored."""
        return batches_to_look_at(self.calibration.feed, self.feed, count)

    def fed_layers(self) -> set[str]:
        """The layers that read what is fed to the net, as it is or moved."""
        fed = fed_values(self.net)
        return {layer.name for layer in self.layers if layer.inputs[0] in fed}

    def ranges(self) -> dict[str, LayerRanges]:
        """The ranges of the layers to quantize: measured, or those of a file."""
        if self.given:
            return {
                layer.name: with_params(given.input, given.output, layer, self.weights)
                for layer in self.layers
                for given in (self.given[layer.name],)
            }
        return measure_ranges(
            self.calibration,
            self.layers,
            self.weights,
            seed=self.options.seed,
            threads=self.options.threads,
            listener=self.listener,
        )

    def sites(self, ranges: dict[str, LayerRanges]) -> dict[str, LayerSites]:
        """What the plans need to know of each layer."""
        options = self.options
        fed = self.fed_layers() if options.preset == "recommended" else set()
        unsigned = nonnegative_values(self.net) if options.without_sign else frozenset[str]()
        own = Stored()
        stored = stored_results(self.net, self.types, self.sums) if options.preset == "recommended" else {}
        sites = {
            layer.name: LayerSites(
                group=self.groups[layer.name],
                ranges=ranges[layer.name],
                lengths=integer_lengths(ranges[layer.name], keep_input=layer.name in fed),
                channel_ils=channel_ils(layer, self.weights) if options.per_channel else (),
                unsigned_input=unsigned.issuperset(layer.inputs),
                unsigned_output=unsigned.issuperset(layer.outputs),
                readers=stored.get(layer.name, own).readers,
                wide=stored.get(layer.name, own).wide and self.options.dialect not in NARROW,
                reads_as_stored=layer.name in self.sums,
                has_params=ranges[layer.name].params.batches > 0,
            )
            for layer in self.layers
        }
        return self._fitted(sites)

    def _fitted(self, sites: dict[str, LayerSites]) -> dict[str, LayerSites]:
        """The sites with the integer lengths that the range rule finds."""
        options, rule = self.options, self.options.rule
        if rule == "max":
            return sites
        if rule != "percentile":
            sites = fitted_to_weights(sites, self.weights, options.params_widths)
        if self.given and all(set(options.activation_widths) <= set(given.fitted) for given in self.given.values()):
            return with_fitted(sites, self.given)
        sites = fitted_to_values(
            sites,
            self.calibration,
            self.weights,
            options.activation_widths,
            percentile=options.percentile if rule == "percentile" else None,
            seed=options.seed,
            threads=options.threads,
        )
        if rule != "output_error":
            return sites
        return fitted_to_outputs(
            sites,
            self.net,
            self.weights,
            self.images_to_look_at(OUTPUT_IMAGES),
            options.activation_widths,
            options.params_widths,
            options.threads,
        )


def open_job(options: QuantizeOptions, listener: Listener) -> Job:
    """Read everything and try the float net on the shapes of its data, so that mistakes show at once."""
    load_plugins(options.plugins)
    confined = confined_to(options.untrusted, options.model, options.data_root)
    document = upgrade_net(read_prototxt(options.model, confined))
    weights = read_weights(options.weights, untrusted=options.untrusted)
    if options.treatment.fold:
        folded = fold(document, weights, NetState("TEST", options.level, options.stages))
        document, weights = folded.document, folded.weights
        listener(Folded(tuple((chain.into, chain.layers) for chain in folded.folded), folded.declined))
    net = build_net(document, NetState("TEST", options.level, options.stages))
    weights = with_shared(net, weights)
    check_weights(net, weights)
    sums = frozenset(layer.name for layer in net.layers if layer.type == "Eltwise" and options.sums_as_stored)
    layers = quantizable_layers(net, options.other_layers, sums)
    options.selection.check({layer.name: layer.type for layer in layers})
    overrides = _overrides(options, layers)
    blob = score_blob(net, options.score)
    plain_weights = weights
    if options.treatment.equalize:
        equalized = equalize(net, weights)
        weights = equalized.weights
        listener(Equalized(tuple((pair.first, pair.readers, pair.channels) for pair in equalized.pairs)))
    net, warnings = runnable(net, [net.finals[blob], *_values_of(layers)])
    cache = Cache(options.cache_mb << 20, options.cache_disk_mb << 20)
    feed = open_feed(
        net, inputs=options.inputs, data_root=options.data_root, seed=options.seed, batched=True, cache=cache
    )
    calibration, more = _open_calibration(options, document, net, feed, layers, cache)
    scoring = open_scoring(options, net, weights, feed, blob, overrides, listener)
    given = _given_ranges(options, layers)
    check_again()  # by now all is open that the job reads
    return Job(
        options,
        document,
        net,
        weights,
        plain_weights,
        feed,
        calibration,
        layers,
        sums,
        scoring,
        overrides,
        given,
        (*warnings, *more),
        listener,
        cache,
    )


def _overrides(options: QuantizeOptions, layers: list[LayerSpec]) -> QuantPlan:
    """The formats that the user gives for single layers."""
    if options.overrides is None:
        return QuantPlan()
    plan = read_plan_file(options.overrides)
    names = {layer.name for layer in layers}
    strange = [name for name in plan.layers if name not in names]
    if strange:
        what = f"the net has no layer '{strange[0]}' that is quantized"
        raise FormatError(what, file=str(options.overrides), cure="the layers' names and --other_layers decide")
    return plan


def _given_ranges(options: QuantizeOptions, layers: list[LayerSpec]) -> dict[str, ValueRanges]:
    """The ranges that the user gives in place of measuring."""
    if options.ranges is None:
        return {}
    given = ranges_from_json(read_json(options.ranges, "ranges"), str(options.ranges))
    missing = [layer.name for layer in layers if layer.name not in given]
    if missing:
        cure = "measure them anew with --save_ranges"
        raise FormatError(f"the file has no ranges of layer '{missing[0]}'", file=str(options.ranges), cure=cure)
    return {layer.name: given[layer.name] for layer in layers}


def _values_of(layers: list[LayerSpec]) -> list[str]:
    return [value for layer in layers for value in (*layer.inputs, *layer.outputs)]


def _open_calibration(
    options: QuantizeOptions, document: Document, net: NetSpec, feed: Feed, layers: list[LayerSpec], cache: Cache
) -> tuple[Calibration, list[str]]:
    """The net and the data that ranges are measured on, and what to warn of."""
    if options.calibration_phase == "TEST" or options.inputs is not None:
        return Calibration(net, feed, options.calibration_batches), []
    try:
        train = build_net(document, NetState("TRAIN", options.level, options.stages))
    except NetError as error:
        what = f"the net of phase TRAIN, on whose data the ranges are measured, cannot be built: {error.what}"
        cure = "measure them with --calibration_phase TEST, or add a data layer for TRAIN"
        raise NetError(what, file=error.file, line=error.line, layer=error.layer, cure=cure) from error
    names = {layer.name for layer in layers}
    train, warnings = runnable(train, _values_of([layer for layer in train.layers if layer.name in names]))
    train_feed = open_feed(train, inputs=None, data_root=options.data_root, seed=options.seed, cache=cache)
    asked, held = options.calibration_batches * train_feed.batch_size, train_feed.images
    if options.ranges is None and held is not None and asked > held:
        what = f"{asked} images were asked for to measure ranges on, the TRAIN source holds {held}"
        warnings = [*warnings, f"{what}: some were looked at more than once"]
    return Calibration(train, train_feed, options.calibration_batches), warnings
