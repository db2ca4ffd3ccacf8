"""A net that can be run: weights fitted, lowered to ONNX once per input shape, values asked for by name."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import FED_TYPES, infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.decide.plan import group_of
from ristretto.decide.stats import TensorStats
from ristretto.errors import NetError
from ristretto.graph.build import BuiltNet, Measure, Section, Simulation, build
from ristretto.graph.groups import convolves_in_groups
from ristretto.graph.kernels import Kernels
from ristretto.graph.steady import steady
from ristretto.memory import memory_bytes
from ristretto.numerics.formats import Format
from ristretto.pipeline.device import current_device
from ristretto.pipeline.integer import TapTotals
from ristretto.pipeline.kernels import kernels_for
from ristretto.pipeline.labels import LabelNotes, LabelRule, computed_rules, has_labels, label_rules
from ristretto.runtime.session import Session

_log = logging.getLogger(__name__)

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Loaded:
    shapes: dict[str, Shape]
    largest: tuple[int, str]
    fetched: int
    built: BuiltNet
    session: Session


@dataclass(slots=True)
class _Numbers:
    """What labels and indices must be.

    Attributes:
        fed: the rules about what is fed.
        computed: those about values that ``maker`` computes, without the rest of the net.
        once: whether that takes long, so that only the first batch is looked at.
        seen: whether one was.
    """

    fed: list[LabelRule]
    computed: list[LabelRule]
    maker: Runner | None
    once: bool
    seen: bool = False


@dataclass(frozen=True, slots=True)
class Halfway:
    """A batch in the middle of a net.

    Attributes:
        fed: the shapes of what was fed to the net.
        values: what later layers read, ``live_values`` of it.
    """

    fed: dict[str, Shape]
    values: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Results:
    """What one batch gave.

    Attributes:
        values: the wanted values.
        ranges: of the measured ones.
        losses: what each rounding in question loses.
    """

    values: dict[str, Array]
    ranges: dict[str, TensorStats]
    losses: dict[tuple[str, Format], float]


@dataclass
class Runner:
    """Runs one net in one simulation.

    Attributes:
        net: the net of one phase.
        weights: the weights files' content, or None for a net without weights.
        outputs: values to return.
        measured: values whose range to return.
        errors: values and formats; ``losses`` tells what rounding the one to the other would lose.
        measure: how that is measured.
        simulation: number formats and rounding.
        threads: threads per run; 0 for one per core.
        diagnose: whether to count what integer arithmetic does.
        section: the layers to run.
        device: the GPU to run on, None for the CPU.
        integer: what it did in the batches so far, by layer.
    """

    net: NetSpec
    weights: Weights | None
    outputs: Sequence[str]
    measured: Sequence[str] = ()
    simulation: Simulation = field(default_factory=Simulation)
    threads: int = 0
    errors: Sequence[tuple[str, Format]] = ()
    measure: Measure = "squared_error"
    diagnose: bool = False
    section: Section = field(default_factory=Section)
    device: int | None = field(default_factory=current_device)
    integer: dict[str, TapTotals] = field(default_factory=dict)
    _loaded: dict[tuple[tuple[tuple[str, Shape], ...], bool], _Loaded] = field(default_factory=dict)
    _rules: dict[tuple[tuple[str, Shape], ...], _Numbers] = field(default_factory=dict)
    _building: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_building"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _building=threading.Lock())

    def run(self, batch: Mapping[str, Array] | Halfway) -> tuple[dict[str, Array], dict[str, TensorStats]]:
        """Run one batch, a section from what the layers before it have made of one.

        Returns:
            the wanted values, and the ranges of the measured ones.
        """
        results = self.results(batch, losses=False)
        return results.values, results.ranges

    def losses(self, batch: Mapping[str, Array] | Halfway) -> dict[tuple[str, Format], float]:
        """For one batch what each rounding in ``errors`` loses, over a sample of the value's elements."""
        return self.results(batch, losses=True).losses

    def results(self, batch: Mapping[str, Array] | Halfway, *, losses: bool) -> Results:
        """Run one batch and return all that is asked for."""
        if not (self.outputs or self.measured or self.errors):
            return Results({}, {}, {})  # onnxruntime takes no empty model
        fed, arrays = (
            (batch.fed, batch.values)
            if isinstance(batch, Halfway)
            else ({blob: array.shape for blob, array in batch.items()}, batch)
        )
        loaded = self._load(fed, arrays.values())
        if self.device is None:
            self._check_memory(loaded)
        if not isinstance(batch, Halfway):
            self.check_labels(arrays)
        return self._computed(loaded, arrays, losses=losses)

    def _computed(self, loaded: _Loaded, arrays: Mapping[str, Array], *, losses: bool) -> Results:
        built = loaded.built
        names = [*built.fetches.values(), *(name for pair in built.extremes.values() for name in pair)]
        names += [name for tap in built.taps.values() for name in tap.outputs]
        names += built.errors.values() if losses else ()
        feeds = {name: arrays[blob] for blob, name in built.inputs.items()}
        results = loaded.session.run(feeds, list(dict.fromkeys(names)))
        for layer, tap in built.taps.items():
            totals = self.integer.setdefault(layer, TapTotals.of(tap))
            for name in tap.outputs:
                totals.add(results[name])
        return Results(
            {value: results[name] for value, name in built.fetches.items()},
            {
                value: TensorStats(float(results[low]), float(results[high]))
                for value, (low, high) in built.extremes.items()
            },
            {asked: float(results[name]) for asked, name in built.errors.items()} if losses else {},
        )

    def prepare(self, fed: Mapping[str, Shape]) -> dict[str, Shape]:
        """Build for the given input shapes now, so that mistakes show before a long job begins.

        Returns:
            the shape of every value.
        """
        return self._load(dict(fed)).shapes

    def check_labels(self, batch: Mapping[str, Array], number: int | None = None) -> LabelNotes:
        """Refuse labels that no class has, and indices that no row has.

        Args:
            batch: what is fed.
            number: that of the batch in its pass, if it is known.

        Returns:
            what else is strange about them.

        Raises:
            DataError: a label is wrong; the error names it and its image.
        """
        if self.section.start or not has_labels(self.net):
            return LabelNotes()
        key = tuple(sorted((blob, array.shape) for blob, array in batch.items()))
        if key not in self._rules:
            self._rules[key] = self._numbers(dict(key))
        numbers = self._rules[key]
        for rule in numbers.fed:
            rule.check(batch, number)
        judged = [(rule, batch) for rule in numbers.fed]
        # A section ends before the layers that would compute labels, or sees a piece of the batch.
        if numbers.maker is not None and self.section == Section() and not (numbers.once and numbers.seen):
            made = numbers.maker.made(batch)
            images = len(next(iter(batch.values()))) if batch else -1
            for rule in numbers.computed:
                rule.check(made, number, images)
            numbers.seen = True
            judged += [(rule, made) for rule in numbers.computed]
        accuracies = [(rule, values) for rule, values in judged if rule.layer.type == "Accuracy"]
        return LabelNotes(
            any(rule.all_ignored(values) for rule, values in accuracies),
            any(
                rule.lacks_class(values)
                for rule, values in accuracies
                if any(top in self.outputs for top in rule.layer.outputs[1:])
            ),
        )

    def _numbers(self, fed: dict[str, Shape]) -> _Numbers:
        net, shapes = self.net, infer_shapes(self.net, fed)
        computed = computed_rules(net, shapes)
        values = tuple(dict.fromkeys(rule.blob for rule in computed))
        needed = net.upstream(values)
        layers = tuple(layer for layer in net.layers if needed.intersection(layer.outputs))
        maker = replace(
            self,
            net=replace(net, layers=layers),
            outputs=values,
            measured=(),
            errors=(),
            diagnose=False,
            device=None,
            integer={},
            _loaded={},
            _rules={},
        )
        once = any(group_of(layer.type) is not None for layer in layers)
        return _Numbers(label_rules(net, shapes), computed, maker if computed else None, once)

    def made(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for a batch that may hold more than the net reads; its labels are not looked at."""
        read = {top for layer in self.net.layers if layer.type in FED_TYPES for top in layer.tops}
        arrays = {blob: array for blob, array in batch.items() if blob in read}
        loaded = self._load({blob: array.shape for blob, array in arrays.items()}, arrays.values())
        return self._computed(loaded, arrays, losses=False).values

    def _largest(self, shapes: Mapping[str, Shape]) -> tuple[int, str]:
        """Of the layers that run the one whose inputs and outputs take most memory: their bytes, and its name."""
        needed = self.net.upstream([*self.outputs, *self.measured, *(value for value, _ in self.errors)])
        return max(
            (
                (sum(4 * math.prod(shapes[value]) for value in {*layer.inputs, *layer.outputs}), layer.name)
                for layer in self.net.layers[self.section.start : self.section.stop]
                if needed.intersection(layer.outputs)
            ),
            default=(0, ""),
        )

    def _check_memory(self, loaded: _Loaded) -> None:
        """Refuse a layer, or results, that the memory cannot hold: the system would end this process, or others."""
        size, layer = loaded.largest
        if size > memory_bytes():
            what = f"its inputs and outputs take {size >> 20} MB, there is no such memory"
            raise NetError(what, file=self.net.file, layer=layer, cure="make the batch or the image smaller")
        if loaded.fetched > memory_bytes():
            count = len(loaded.built.fetches)
            what = f"the {count} blobs that are asked for take {loaded.fetched >> 20} MB, there is no such memory"
            raise NetError(what, file=self.net.file, cure="ask for fewer, or make the batch or the image smaller")

    def _load(self, fed: dict[str, Shape], arrays: Iterable[Array] = ()) -> _Loaded:
        # Faster kernels give a number where a value is NaN; plain ones keep it.
        with np.errstate(over="ignore", invalid="ignore"):
            plain = not all(np.isfinite(np.sum(array)) for array in arrays)
        key = tuple(sorted(fed.items())), plain
        with self._building:
            if key not in self._loaded:
                # A batch in pieces may have two shapes; more are not needed at once.
                self._loaded = {**dict([*self._loaded.items()][-1:]), key: self._built(fed, plain=plain)}
            return self._loaded[key]

    def _built(self, fed: dict[str, Shape], *, plain: bool) -> _Loaded:
        start = time.perf_counter()
        shapes = infer_shapes(self.net, fed)
        blobs = fit_weights(self.net, shapes, self.weights)
        kernels: Kernels = "plain" if plain else kernels_for(self.net, blobs, self.simulation, self.device)
        built = build(
            self.net,
            shapes,
            blobs,
            outputs=self.outputs,
            extremes=self.measured,
            errors=self.errors,
            measure=self.measure,
            simulation=self.simulation,
            diagnose=self.diagnose,
            section=self.section,
            kernels=kernels,
        )
        session = Session(
            steady(built.model, double=built.double).SerializeToString(),
            threads=self.threads,
            keep_layout=kernels != "plain",
            device=self.device,
            in_groups=convolves_in_groups(built.model),
        )
        _log.debug(
            "built phase %s for %s: %d nodes, %s kernels, %d layers with formats, %s, in %.2f s",
            self.net.phase,
            " ".join(f"{blob} {'x'.join(map(str, shape))}" for blob, shape in fed.items()) or "no input",
            len(built.model.graph.node),
            kernels,
            len(self.simulation.formats),
            "on the CPU" if self.device is None else f"on GPU {self.device}",
            time.perf_counter() - start,
        )
        largest = self._largest(shapes.values)
        fetched = sum(4 * math.prod(shapes.values[value]) for value in built.fetches)
        return _Loaded(shapes.values, largest, fetched, built, session)
