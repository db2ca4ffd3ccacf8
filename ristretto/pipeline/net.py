"""A net that is loaded once and run as often as you like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ristretto.caffe.netspec import NetSpec, Phase, Shape
from ristretto.caffe.shapes import declared_shapes
from ristretto.data import fitting
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.fields import takes_formats
from ristretto.errors import DataError, FormatError, UsageError
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline.device import on_device
from ristretto.pipeline.evaluate import Loaded, NetOptions, evaluate, load, one_batch, wanted_blobs
from ristretto.pipeline.feed import Batch, fed_layers
from ristretto.pipeline.files import read_plan_file
from ristretto.pipeline.given import fitted
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.runner import Runner
from ristretto.report.model import Evaluation, Report

Formats = Mapping[str, LayerFormats] | QuantPlan | Report | str | Path
"""Formats by layer name; or what holds them: a report, or a file (docs/report.md)."""

_SESSIONS = 4
"""How many choices of blobs keep their session; each is a graph of its own."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer that runs in the net's phase.

    Attributes:
        name: the layer's name, as in the prototxt.
        type: its type, under today's name.
        bottoms, tops: the blobs that it reads and makes.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Net:
    """A net, its weights and its number formats, to be run; ``ristretto.load_net`` makes one.

    Nothing of it changes, but sessions are kept from call to call: run it from one thread at a time.
    """

    _options: NetOptions
    _loaded: Loaded
    _sessions: dict[tuple[str, ...], tuple[NetSpec, Runner]] = field(default_factory=dict)

    @classmethod
    def load(cls, options: NetOptions) -> Net:
        """Read a net and its weights.

        Raises:
            RistrettoError: one of the files cannot be read or makes no sense.
        """
        return cls(options, load(options))

    def __repr__(self) -> str:
        what = f"{len(self.layers)} layers, {len(self.formats)} with formats"
        return f"<Net {self.name or self._options.model}, phase {self.phase}: {what}>"

    @property
    def name(self) -> str:
        """The net's name; "" if it has none."""
        return self._loaded[0].name

    @property
    def phase(self) -> Phase:
        """The phase that it was built in."""
        return self._loaded[0].phase

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that run in this phase, in order."""
        return tuple(Layer(layer.name, layer.type, layer.bottoms, layer.tops) for layer in self._loaded[0].layers)

    @property
    def inputs(self) -> Mapping[str, Shape | None]:
        """The blobs that are fed, with the shape that the prototxt declares: None where only a source knows it."""
        inputs: dict[str, Shape | None] = {}
        for layer in fed_layers(self._loaded[0]):
            inputs.update(zip(layer.tops, declared_shapes(layer) or (None,) * len(layer.tops), strict=True))
        return MappingProxyType(inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The blobs that no layer reads, in alphabetical order: Caffe's outputs."""
        return self._loaded[0].outputs

    @property
    def blobs(self) -> tuple[str, ...]:
        """All blobs."""
        return tuple(self._loaded[0].finals)

    @property
    def formats(self) -> Mapping[str, LayerFormats]:
        """The formats of the quantized layers, by name; not to be changed."""
        return MappingProxyType(dict(self._loaded[2].formats))

    def with_formats(self, formats: Formats) -> Net:
        """The same net with other formats in place of all that it has; this one stays as it is.

        Args:
            formats: by layer name; a report; or a file with either. An empty mapping gives the float net.

        Raises:
            FormatError: the net has no such layer, or it is of a type that takes no formats.
        """
        plan = plan_of(formats)
        net, weights, simulation = self._loaded
        for name in plan:
            layer = net.layer(name)
            if layer is None:
                raise FormatError(f"the net has no layer '{name}'", file=net.file, cure="are the formats this net's?")
            if not takes_formats(layer.type):
                raise FormatError(f"layers of type {layer.type} take no formats", layer=name, file=net.file)
        return Net(self._options, (net, weights, replace(simulation, formats=plan)))

    def run(
        self,
        inputs: Mapping[str, ArrayLike] | None = None,
        blobs: Sequence[str] | Literal["all"] | None = None,
        batch: int = 0,
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """Run a batch.

        Args:
            inputs: an array for each of ``Net.inputs``, in Caffe's order (N, C, H, W), as the net is fed: mean
                subtracted and scaled. The net takes their shapes. Others are passed over. None reads the net's data.
            blobs: the blobs wanted; None for the outputs, "all" for every one.
            batch: which batch of its own data, from 0; only without ``inputs``.

        Returns:
            for each blob what it holds after the forward pass: float32, or float64 if that is the arithmetic.

        Raises:
            DataError: an array is missing or does not fit, or the data cannot be read.
            UsageError: there is no such blob or batch.
            RistrettoError: the weights do not fit the net.
        """
        asked = (
            ("all",)
            if blobs == "all"
            else None
            if blobs is None
            else tuple([blobs] if isinstance(blobs, str) else blobs)
        )
        wanted = wanted_blobs(self._loaded[0], asked)
        net, runner = self._session(wanted)
        if inputs is not None and batch:
            raise UsageError("batch counts the net's own data, inputs take its place", cure="give one of the two")
        values, _ = runner.run(one_batch(net, self._options, batch) if inputs is None else _fed(net, inputs))
        return {blob: values[net.finals[blob]] for blob in wanted}

    def evaluate(
        self, iterations: int | Literal["all"] | None = 50, score: str | None = None, *, score_script: str | None = None
    ) -> Evaluation:
        """Score the net on its own data.

        Args:
            iterations: batches to score; None or "all" scores every image once.
            score: the blob that decides; None takes the first output.
            score_script: "module:function", a metric of your own.

        Raises:
            RistrettoError: the net computes no score, or its data cannot be read.
        """
        count = None if iterations == "all" else fitted("iterations", int | None, iterations)
        return evaluate(self._options, count, score, score_script=score_script, loaded=self._loaded)

    def _session(self, wanted: tuple[str, ...]) -> tuple[NetSpec, Runner]:
        if wanted not in self._sessions:
            whole, weights, simulation = self._loaded
            net, _ = runnable(whole, [whole.finals[blob] for blob in wanted])
            with on_device(self._options.gpu):
                values = [net.finals[blob] for blob in wanted]
                made = net, Runner(net, weights, values, (), simulation, self._options.threads)
            while len(self._sessions) >= _SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[wanted] = made
        return self._sessions[wanted]


def plan_of(formats: Formats) -> dict[str, LayerFormats]:
    """Formats by layer name, whatever holds them.

    Raises:
        RistrettoError: a file cannot be read, or holds no formats; what is given is none of these.
    """
    if isinstance(formats, (str, Path)):
        return dict(read_plan_file(Path(formats)).layers)
    if isinstance(formats, Report):
        return dict(formats.plan.layers)
    layers = dict(formats.layers if isinstance(formats, QuantPlan) else formats)
    for name, value in layers.items():
        if not isinstance(value, LayerFormats):
            what = f"the formats of a layer cannot be {value!r}"
            raise UsageError(what, layer=str(name), cure="use ristretto.formats.LayerFormats(params=...)")
    return layers


def _fed(net: NetSpec, inputs: Mapping[str, ArrayLike]) -> Batch:
    """The arrays that the net reads, as float32 and with the axes that it declares."""
    batch: Batch = {}
    for layer in fed_layers(net):
        declared = declared_shapes(layer) or (None,) * len(layer.tops)
        for blob, shape in zip(layer.tops, declared, strict=True):
            if blob not in inputs:
                cure = f"given are {', '.join(inputs) or 'none'}"
                raise DataError(f"no array for blob '{blob}'", layer=layer.name, file=net.file, cure=cure)
            batch[blob] = fitting(np.asarray(inputs[blob]), shape, blob)
    return batch
