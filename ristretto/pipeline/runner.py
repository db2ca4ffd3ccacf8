"""A net that can be run: weights fitted, lowered to ONNX once per input shape, values asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.parameters import fit_weights
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.weights import Weights
from ristretto.decide.stats import TensorStats
from ristretto.graph.build import BuiltNet, Kernels, Measure, Section, Simulation, build
from ristretto.numerics.formats import Format
from ristretto.pipeline.integer import TapTotals
from ristretto.pipeline.kernels import kernels_for
from ristretto.pipeline.labels import LabelRule, label_rules
from ristretto.runtime.session import Session

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Loaded:
    shapes: dict[str, Shape]
    labels: list[LabelRule]
    built: BuiltNet
    session: Session


@dataclass(frozen=True, slots=True)
class Halfway:
    """A batch in the middle of a net.

    Attributes:
        fed: the shapes of what was fed to the net.
        values: what later layers read, ``live_values`` of it.
    """

    fed: dict[str, Shape]
    values: dict[str, Array]


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
    integer: dict[str, TapTotals] = field(default_factory=dict)
    _loaded: dict[tuple[tuple[tuple[str, Shape], ...], bool], _Loaded] = field(default_factory=dict)

    def run(self, batch: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, TensorStats]]:
        """Run one batch.

        Returns:
            the wanted values, and the ranges of the measured ones.
        """
        loaded = self._load({blob: array.shape for blob, array in batch.items()}, batch.values())
        for rule in loaded.labels:
            rule.check(batch)
        built = loaded.built
        names = [*built.fetches.values(), *(name for pair in built.extremes.values() for name in pair)]
        names += [name for tap in built.taps.values() for name in tap.outputs]
        feeds = {name: batch[blob] for blob, name in built.inputs.items()}
        results = loaded.session.run(feeds, list(dict.fromkeys(names)))
        values = {value: results[name] for value, name in built.fetches.items()}
        ranges = {
            value: TensorStats(float(results[low]), float(results[high]))
            for value, (low, high) in built.extremes.items()
        }
        for layer, tap in built.taps.items():
            totals = self.integer.setdefault(layer, TapTotals.of(tap))
            for name in tap.outputs:
                totals.add(results[name])
        return values, ranges

    def losses(self, batch: Mapping[str, Array]) -> dict[tuple[str, Format], float]:
        """For one batch what each rounding in ``errors`` loses, over a sample of the value's elements."""
        loaded = self._load({blob: array.shape for blob, array in batch.items()}, batch.values())
        feeds = {name: batch[blob] for blob, name in loaded.built.inputs.items()}
        results = loaded.session.run(feeds, list(loaded.built.errors.values()))
        return {asked: float(results[name]) for asked, name in loaded.built.errors.items()}

    def go_on(self, halfway: Halfway) -> dict[str, Array]:
        """Run the section from what the layers before it have made of a batch."""
        built = (loaded := self._load(halfway.fed, halfway.values.values())).built
        feeds = {name: halfway.values[value] for value, name in built.inputs.items()}
        results = loaded.session.run(feeds, list(dict.fromkeys(built.fetches.values())))
        return {value: results[name] for value, name in built.fetches.items()}

    def prepare(self, fed: Mapping[str, Shape]) -> dict[str, Shape]:
        """Build for the given input shapes now, so that mistakes show before a long job begins.

        Returns:
            the shape of every value.
        """
        return self._load(dict(fed)).shapes

    def _load(self, fed: dict[str, Shape], arrays: Iterable[Array] = ()) -> _Loaded:
        # Faster kernels give a number where a value is NaN; plain ones keep it.
        plain = not all(np.isfinite(np.sum(array)) for array in arrays)
        key = tuple(sorted(fed.items())), plain
        if key not in self._loaded:
            shapes = infer_shapes(self.net, fed)
            blobs = fit_weights(self.net, shapes, self.weights)
            kernels: Kernels = "plain" if plain else kernels_for(self.net, blobs, self.simulation)
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
            session = Session(built.model.SerializeToString(), threads=self.threads, keep_layout=kernels != "plain")
            self._loaded = {key: _Loaded(shapes.values, label_rules(self.net, shapes), built, session)}
        return self._loaded[key]
