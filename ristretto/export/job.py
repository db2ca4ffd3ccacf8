"""What an export is asked for, what it gets to work with, and what it tells in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.netspec import NetSpec, Shape
from ristretto.caffe.weights import Weights
from ristretto.dialects.registry import Source
from ristretto.graph.build import Simulation
from ristretto.numerics.arithmetic import Accumulator
from ristretto.numerics.rounding import Rounding

Array = NDArray[np.float32]
Batch = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export and how; the names are those of the command line.

    Attributes:
        model: the quantized prototxt.
        weights: its weights files, later ones override.
        output: where to write: a folder or a file, as the target has it.
        target: a name in ``targets.TARGETS``.
        images: how many images become vectors, or are measured with; 0 for the target's own number, or as many as there
            are if there are fewer.
        inputs: an npz file in place of the net's own data.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        formats: the kinds of files for integers; empty for all.
        layers: the layers to write; empty for all.
        force: whether an export that is there already is replaced.
        blobs: the blobs to compute; None for the net's outputs.
        batch: a length of axis 0 to hold fast; None for any.
        rounding: how quantized layers round where they do not say so themselves.
        accumulator: where integer arithmetic adds up.
        seed: of crops, mirrors and stochastic rounding.
        level, stages: of the state that the net is built in, beside phase TEST.
        plugins: modules that teach layer types, by name or as paths ending in .py (docs/plugins.md).
        version: of this program, for what is written.
        dialect: the dialect of the prototxt; "auto" lets the names of its fields decide (docs/dialects.md).
        nearest: whether scales in it that are no powers of two become the nearest.
    """

    model: Path
    weights: tuple[Path, ...]
    output: Path
    target: str = "hardware"
    images: int = 0
    inputs: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    formats: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    force: bool = False
    blobs: tuple[str, ...] | None = None
    batch: int | None = None
    rounding: Rounding = Rounding.HALF_EVEN
    accumulator: Accumulator = field(default_factory=Accumulator)
    seed: int = 0
    level: int = 0
    stages: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    version: str = ""
    dialect: Source = "auto"
    nearest: bool = False


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A quantized net, and the means to run it.

    Attributes:
        options: what was asked for.
        net: the net in phase TEST.
        weights: the content of its weights files.
        simulation: its formats, rounding and accumulator, with integer arithmetic.
        shapes: makes the shape of each fed blob, for the batch that the net declares, and warnings; a callable
            because it may have to open the data.
        images: makes a batch of the first so many images of the net's data, all blobs that are fed.
        run: runs the net in a simulation on a batch; ``values`` calls it.
    """

    options: ExportOptions
    net: NetSpec
    weights: Weights
    simulation: Simulation
    shapes: Callable[[], tuple[dict[str, Shape], list[str]]]
    images: Callable[[int], Batch]
    run: Callable[[Simulation, Sequence[str], Batch], dict[str, Array]]

    def values(self, asked: Sequence[str], batch: Batch, simulation: Simulation | None = None) -> dict[str, Array]:
        """Values of the net for a batch, each as its layer made it, before later layers round it in place.

        Args:
            asked: names of values; ``NetSpec.finals`` has a blob's last one.
            batch: all blobs that are fed.
            simulation: another than the job's.
        """
        return self.run(simulation or self.simulation, asked, batch)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        lines: what to say of it on stdout.
        warnings: what the user should know, a line each.
    """

    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
