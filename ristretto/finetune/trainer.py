"""Steps of training: passes forwards and backwards, and what Caffe's rules make of the gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.solver import RatePolicy, UpdateRule
from ristretto.errors import NetError
from ristretto.finetune.net import Draw, TorchNet
from ristretto.finetune.rates import learning_rate
from ristretto.finetune.rules import Array, History, clip_factor, history_length, regularized, step

Batch = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Step:
    """What one iteration did.

    Attributes:
        iteration: its number, from 0.
        loss: mean over its batches, before the weights were changed.
        rate: the learning rate.
        outputs: what the net's output blobs held after the last batch.
    """

    iteration: int
    loss: float
    rate: float
    outputs: dict[str, tuple[float, ...]]


@dataclass
class Trainer:
    """Trains a net.

    Attributes:
        net: the net; its weights are changed in place.
        rule, policy: how.
        seed: of everything random.
        iteration: of the next step.
        history: what the rule remembers of each weight blob.
    """

    net: TorchNet
    rule: UpdateRule
    policy: RatePolicy
    seed: int = 0
    iteration: int = 0
    history: list[History] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.history:
            count = history_length(self.rule)
            self.history = [
                tuple(np.zeros_like(parameter.data) for _ in range(count)) for parameter in self.net.parameters.unique
            ]

    def step(self, batches: Iterable[Batch]) -> Step:
        """One iteration over its batches (Solver::Step).

        Raises:
            NetError: the loss is no number any more.
        """
        losses, outputs = [], {}
        for parameter in self.net.parameters.unique:
            parameter.tensor.grad = None
        for number, batch in enumerate(batches):
            passed = self.net.forward(batch, Draw(self.seed, self.iteration, number))
            losses.append(float(passed.loss.detach()))
            self._require_finite(losses[-1])
            passed.loss.backward()
            finals = self.net.net.finals
            outputs = {
                blob: tuple(passed.values[finals[blob]].detach().reshape(-1).tolist()) for blob in self.net.net.outputs
            }
        rate = learning_rate(self.policy, self.iteration)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the next loss tells
            self._update(rate)
        done = Step(self.iteration, sum(losses) / len(losses), rate, outputs)
        self.iteration += 1
        return done

    def _require_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        kind = "NaN" if math.isnan(loss) else "infinite"
        cure = "lower base_lr, or set clip_gradients; the last snapshot is from before"
        raise NetError(f"the loss is {kind} at iteration {self.iteration}", file=self.net.net.file, cure=cure)

    def _update(self, rate: float) -> None:
        """Change the weights (SGDSolver::ApplyUpdate)."""
        parameters = self.net.parameters.unique
        gradients = [parameter.gradient() for parameter in parameters]
        factor = clip_factor(gradients, self.rule.clip_gradients)
        for number, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            clipped = gradient if factor == 1.0 else gradient * factor
            own = regularized(self.rule, parameter.data, clipped, parameter.decay_mult)
            change, self.history[number] = step(
                self.rule, own, self.history[number], rate * parameter.lr_mult, self.iteration
            )
            if parameter.lr_mult:
                np.subtract(parameter.data, change, out=parameter.data)
        thresholds = self.net.rounding.thresholds
        if thresholds is not None:
            thresholds.update(rate / self.policy.base_lr if self.policy.base_lr else 1.0, self.iteration)

    def arrays(self) -> list[Array]:
        """What the rule remembers, in the order of Caffe's snapshots: the first array of each blob, then the second."""
        return [arrays[place] for place in range(history_length(self.rule)) for arrays in self.history]

    def restore(self, iteration: int, arrays: Sequence[Array]) -> str:
        """Take up a snapshot.

        Returns:
            what does not fit, or "".
        """
        blobs, count = len(self.history), history_length(self.rule)
        if len(arrays) != blobs * count:
            return f"it holds {len(arrays)} arrays, this net and solver have {blobs * count}"
        parameters = self.net.parameters.unique
        for number, parameter in enumerate(parameters):
            own = [arrays[number + place * blobs] for place in range(count)]
            if any(array.size != parameter.data.size for array in own):
                shapes = f"{list(own[0].shape)}, the layer's is {list(parameter.data.shape)}"
                return f"what it remembers of layer '{parameter.layer}' has shape {shapes}"
            self.history[number] = tuple(np.array(array, np.float32).reshape(parameter.data.shape) for array in own)
        self.iteration = iteration
        return ""
