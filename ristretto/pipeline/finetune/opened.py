"""What a training works on: solver, nets, weights and data, opened and tried."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ristretto.caffe.confined import check_named, confined_to
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.prune import without_unknown
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import FED_TYPES, infer_shapes
from ristretto.caffe.solver import SolverConfig
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import upgrade_net
from ristretto.caffe.weights import LayerWeights, Weights
from ristretto.data import Cache, prefetched
from ristretto.dialects.registry import plan_of
from ristretto.errors import NetError
from ristretto.finetune.net import Rounded, TorchNet
from ristretto.finetune.registry import trained_types
from ristretto.finetune.thresholds import Thresholds
from ristretto.finetune.trainer import Trainer
from ristretto.graph.build import Simulation
from ristretto.numerics.layer_formats import LayerFormats, Role
from ristretto.pipeline.feed import Batch, Feed, fed_layers, open_feed
from ristretto.pipeline.finetune.options import FinetuneOptions
from ristretto.pipeline.labels import LabelRule, label_rules
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.runner import Runner
from ristretto.pipeline.score import loss_weights, run_pass
from ristretto.pipeline.sound import check_weights
from ristretto.report.events import Output, silent

_CACHE_BYTES = 256 << 20
"""Memory for decoded images, which every round of a training reads again."""


@dataclass(frozen=True, slots=True)
class Tested:
    """A net that is scored while another one is trained.

    Attributes:
        net: the net, quantized as its prototxt says.
        feed: its data.
        iterations: batches of a score.
        formats: its formats.
    """

    net: NetSpec
    feed: Feed
    iterations: int
    formats: Mapping[str, LayerFormats]

    def score(
        self, weights: Weights, learned: Mapping[str, LayerFormats], threads: int, stop: Callable[[], bool]
    ) -> tuple[Output, ...] | None:
        """The means of its outputs with some weights, and with learned formats in place of its own.

        Returns:
            None where it was stopped before the end.
        """
        formats = {name: learned.get(name, own) for name, own in self.formats.items()}
        values = [self.net.finals[blob] for blob in self.net.outputs]
        runner = Runner(self.net, weights, values, (), Simulation(formats), threads)
        result = run_pass(runner, self.feed, self.net.outputs, self.iterations, "test", silent, stop=stop)
        return result.outputs if result.batches == self.iterations else None


@dataclass(frozen=True, slots=True)
class Opened:
    """A training, ready to begin.

    Attributes:
        solver: how to train.
        seed: of everything random.
        document: the prototxt of the net to train, in today's form.
        feed: its data.
        labels: what its labels must be.
        trainer: the net and the state of its training.
        tests: the nets to score.
        others: layers of the weights files that the net does not train; they go into its snapshots as they are.
        warnings: what to warn of.
    """

    solver: SolverConfig
    seed: int
    document: Document
    feed: Feed
    labels: tuple[LabelRule, ...]
    trainer: Trainer
    tests: tuple[Tested, ...]
    others: tuple[LayerWeights, ...]
    warnings: tuple[str, ...]

    @property
    def net(self) -> NetSpec:
        """The net that is trained."""
        return self.trainer.net.net

    @property
    def thresholds(self) -> Thresholds | None:
        """The formats that are learned."""
        return self.trainer.net.rounding.thresholds

    def formats(self) -> dict[str, LayerFormats]:
        """The formats of the layers as they are now; empty where none are learned."""
        if self.thresholds is None:
            return {}
        return self.thresholds.formats(self.trainer.net.rounding.formats)

    def weights(self) -> Weights:
        """The weights as they are now, float: views, which the next step changes."""
        pairs = zip(self.net.layers, self.trainer.net.parameters.layers, strict=True)
        layers = (
            LayerWeights(layer.name, layer.type, tuple(p.data for p in used), layer.bottoms, layer.tops)
            for layer, used in pairs
        )
        return Weights((*layers, *self.others), ())

    def batches(self) -> Generator[Iterator[Batch], None, None]:
        """The batches of each iteration from the present one on, as an uninterrupted training reads them.

        Those of one iteration are read one after the other, and have to be before the next is asked for.
        """
        size = self.solver.rule.iter_size
        total, first = self.solver.max_iter * size, self.trainer.iteration * size
        # A picker lists all places of the training beforehand: only what has to skip some is worth that.
        picker = self.feed.picker(total) if first else None
        section = self.feed.section(total, first, total - first, picker)
        with closing(self._checked(prefetched(section))) as checked:
            for _ in range(self.trainer.iteration, self.solver.max_iter):
                yield islice(checked, size)

    def _checked(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        for batch in batches:
            for rule in self.labels:
                rule.check(batch)
            yield batch


def open_training(options: FinetuneOptions, solver: SolverConfig, weights: Weights) -> Opened:
    """Open everything, so that mistakes show before the first step.

    Raises:
        RistrettoError: a user's mistake.
    """
    seed = options.seed if options.seed is not None else solver.seed or 0
    warnings = [f"the solver's field '{name}' is not known here and changes nothing" for name in solver.unknown]
    document = upgrade_net(_read_named(solver.net, options))
    net, left_out = _trainable(build_net(document, solver.state))
    losses = {net.finals[blob]: weight for blob, weight in loss_weights(net).items() if blob in net.finals}
    if not losses:
        cure = "add a loss layer such as SoftmaxWithLoss, for phase TRAIN too"
        raise NetError("the net has no loss in phase TRAIN: there is nothing to train for", file=net.file, cure=cure)
    feed = _feed(net, options, seed)
    shapes = infer_shapes(net, feed.shapes)
    blobs = fit_weights(net, shapes, weights)
    check_weights(net, weights)
    formats = plan_of(net).layers
    rounding = Rounded(
        formats,
        options.weight_rounding,
        activations=options.quantize_activations,
        frozen=options.batch_norm == "frozen",
        thresholds=Thresholds.of(formats, _roles(options), options.formats_rate) if options.learn_formats else None,
    )
    if options.learn_formats and not (rounding.thresholds and rounding.thresholds.sites):
        cure = "name a quantized prototxt in the solver, or leave --learn_formats out"
        raise NetError("the net has no fixed-point formats that could be learned", file=net.file, cure=cure)
    trainer = Trainer(TorchNet(net, blobs, losses, rounding), solver.rule, solver.rate, seed)
    if not any(parameter.lr_mult for parameter in trainer.net.parameters.unique):
        raise NetError("no weight would be trained: every lr_mult is 0", file=net.file, cure="set lr_mult: 1 somewhere")
    if options.quantize_activations and not formats:
        warnings.append("--quantize_activations changes nothing: the net that the solver names has no formats")
    tests = tuple(_tested(test.path, test.state, test.iterations, options, seed) for test in solver.tests)
    names = {layer.name for layer in net.layers}
    others = tuple(layer for layer in weights.layers if layer.name not in names and layer.blobs)
    rules = tuple(label_rules(net, shapes))
    return Opened(solver, seed, document, feed, rules, trainer, tests, others, (*warnings, *left_out))


def _roles(options: FinetuneOptions) -> frozenset[Role]:
    weights: frozenset[Role] = frozenset(("params", "bias"))
    return weights | frozenset(("in", "out")) if options.quantize_activations else weights


def _read_named(name: str, options: FinetuneOptions) -> Document:
    """A prototxt that the solver names."""
    path = _found(name, options)
    check_named(path, "the net", options.solver, confined_to(options.untrusted, options.solver, options.data_root))
    return read_prototxt(path, confined_to(options.untrusted, path, options.data_root))


def _found(name: str, options: FinetuneOptions) -> Path:
    """A file that the solver names: from here, as Caffe has it, or else from where the solver lies."""
    given = Path(name)
    places = (given, options.solver.parent / given, *((options.data_root / given,) if options.data_root else ()))
    return next((place for place in places if place.exists()), given)


def _trainable(net: NetSpec) -> tuple[NetSpec, list[str]]:
    """A net without the layers that cannot be trained and that no loss follows from."""
    wanted = [net.finals[blob] for blob in loss_weights(net)]
    pruned = without_unknown(net, trained_types() | FED_TYPES, wanted)
    return pruned.net, [
        f"layer '{layer.name}' of phase {layer.phase} is left out: nothing is learned from it"
        for layer in pruned.dropped
    ]


def _feed(net: NetSpec, options: FinetuneOptions, seed: int) -> Feed:
    """The data of a net, from its own data layers.

    Raises:
        RistrettoError: it has none, or they cannot be read.
    """
    cure = "name the images with a layer of type Data, ImageData or HDF5Data"
    fed = fed_layers(net)
    if not fed:
        raise NetError(f"the net has no data layer in phase {net.phase}", file=net.file, cure=cure)
    for layer in fed:
        if layer.type not in ("Data", "ImageData", "HDF5Data"):
            what = f"a {layer.type} layer has no data of its own to train or test with"
            raise layer.view.error(what, field="type", cure=cure)
    return open_feed(net, inputs=None, data_root=options.data_root, seed=seed, batched=True, cache=Cache(_CACHE_BYTES))


def _tested(name: str, state: NetState, iterations: int, options: FinetuneOptions, seed: int) -> Tested:
    net = build_net(_read_named(name, options), state)
    if not net.outputs:
        raise NetError("the net to test has no output blob", file=net.file, cure="add an Accuracy layer")
    net, _ = runnable(net, ())
    feed = _feed(net, options, seed)
    return Tested(net, feed, iterations, plan_of(net).layers)
