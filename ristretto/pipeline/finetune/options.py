"""What a training may be told besides its solver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ristretto.errors import UsageError
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline.given import coerce

BatchNorm = Literal["trained", "frozen"]


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """A training.

    Attributes:
        solver: the solver prototxt, which names the net; a quantized one is trained as it is rounded.
        weights: its weights files, later ones override; none to take those that the solver names.
        snapshot: a .solverstate to go on from, in place of weights.
        resume: whether to go on from the last snapshot of the solver's prefix, if there is one.
        quantize_activations: whether bottoms and tops are rounded while training, as they are in a test.
        weight_rounding: how weights are rounded in the forward pass.
        batch_norm: whether BatchNorm normalises by the batch and learns its statistics, or keeps those it has.
        learn_formats: whether fractional lengths are trained: of weights, and of activations if those are rounded.
        formats_rate: the learning rate of that.
        snapshot_prefix: what the names of snapshots begin with; None for the solver's.
        output: where the trained weights are written besides the snapshot.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        seed: of everything random; None takes the solver's random_seed, or 0.
        threads: threads; 0 for one per core.
    """

    solver: Path
    weights: tuple[Path, ...] = ()
    snapshot: Path | None = None
    resume: bool = False
    quantize_activations: bool = False
    weight_rounding: Rounding = Rounding.STOCHASTIC
    batch_norm: BatchNorm = "trained"
    learn_formats: bool = False
    formats_rate: float = 0.01
    snapshot_prefix: Path | None = None
    output: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    seed: int | None = None
    threads: int = 0

    def __post_init__(self) -> None:
        coerce(self)
        if self.snapshot is not None and (self.weights or self.resume):
            other = "--weights" if self.weights else "--resume"
            cure = "a snapshot has its own weights: give one of the two"
            raise UsageError(f"--snapshot and {other} exclude each other", cure=cure)
        if not 0.0 < self.formats_rate < 10.0:
            raise UsageError(f"formats_rate must be above 0 and below 10, got {self.formats_rate:g}", cure="use 0.01")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"the seed must not be negative, got {self.seed}", cure="give 0 or a positive number")

    def told(self, seed: int) -> dict[str, str]:
        """What decides the course of a training, as text."""
        return {
            "quantize_activations": str(self.quantize_activations).lower(),
            "weight_rounding": self.weight_rounding.value,
            "batch_norm": self.batch_norm,
            "learn_formats": str(self.learn_formats).lower(),
            "seed": str(seed),
        }
