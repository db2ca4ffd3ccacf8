"""Formats that are learned: for each site a threshold on the scale of powers of two, trained as weights are.

A threshold t gives the format whose greatest power is ceil(t): its step is 2 ** (ceil(t) - bw + 1), one bit less
without a sign. Its gradient takes the rounding as if it were not there and ceil as the identity: what is kept moves it
by what rounding changed, what saturates by the bound (Jain et al., Trained Quantization Thresholds, MLSys 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ristretto.caffe.solver import UpdateRule
from ristretto.finetune.backend import Tensor, torch
from ristretto.finetune.rules import step
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format
from ristretto.numerics.layer_formats import ROLES, LayerFormats, Role

_RULE = UpdateRule("Adam", momentum=0.9)
_LEAST, _MOST = -100.0, 100.0

Site = tuple[str, Role]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of one site; one for each channel where the format has a point for each.

    Attributes:
        start: the format that training starts from; its width and its sign stay.
        data: the thresholds, changed in place.
        tensor: the same memory for torch.
    """

    start: DynamicFixedPoint | ChannelFixedPoint
    data: Array
    tensor: Tensor

    @classmethod
    def of(cls, fmt: DynamicFixedPoint | ChannelFixedPoint) -> Threshold:
        """The threshold in the middle of those that give a format, so that it is as far to either side."""
        fls = fmt.fls if isinstance(fmt, ChannelFixedPoint) else (fmt.fl,)
        data = np.array([_bits(fmt) - fl - 0.5 for fl in fls], np.float32)
        return cls(fmt, data, torch.from_numpy(data).requires_grad_(True))

    @property
    def format(self) -> DynamicFixedPoint | ChannelFixedPoint:
        """The format that it gives now."""
        fls = tuple(_bits(self.start) - math.ceil(value) for value in self.data.tolist())
        if isinstance(self.start, ChannelFixedPoint):
            return replace(self.start, fls=fls)
        return replace(self.start, fl=fls[0])

    def attached(self, value: Tensor, result: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """A rounded value, from which a gradient goes to the threshold too.

        Args:
            value: before it was rounded.
            result: after.
            low: the least value of the format, to be broadcast over the value.
            high: the greatest.
        """
        value, kept = value.detach(), result.detach()
        inside = (value >= low) & (value <= high)
        slope = math.log(2.0) * torch.where(inside, kept - value, kept)
        moved = slope * self.tensor.reshape(-1, *(1,) * (value.dim() - 1))
        return result + (moved - moved.detach())


def _bits(fmt: DynamicFixedPoint | ChannelFixedPoint) -> int:
    """The bits of a format's magnitude."""
    return fmt.bw - 1 if isinstance(fmt, ChannelFixedPoint) or fmt.signed else fmt.bw


@dataclass
class Thresholds:
    """The thresholds of all sites whose formats are learned, and what Adam remembers of them.

    Attributes:
        sites: by layer and role.
        rate: the learning rate that the solver's is scaled to.
    """

    sites: dict[Site, Threshold]
    rate: float
    _history: dict[Site, tuple[Array, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, formats: Mapping[str, LayerFormats], roles: frozenset[Role], rate: float) -> Thresholds:
        """Thresholds for the fixed-point formats of some roles."""
        sites = {
            (name, role): Threshold.of(fmt)
            for name, layer in formats.items()
            for role in ROLES
            if role in roles and isinstance(fmt := layer.at(role), DynamicFixedPoint | ChannelFixedPoint)
        }
        return cls(sites, rate)

    def at(self, layer: str, role: Role) -> Threshold | None:
        """The threshold of a site, or None where its format is not learned."""
        return self.sites.get((layer, role))

    def formats(self, formats: Mapping[str, LayerFormats]) -> dict[str, LayerFormats]:
        """Formats with those of the learned sites as they are now."""
        return {name: self._layer(name, layer) for name, layer in formats.items()}

    def _layer(self, name: str, layer: LayerFormats) -> LayerFormats:
        now: dict[Role, Format | None] = {role: layer.at(role) for role in ROLES}
        for role in ROLES:
            threshold = self.at(name, role)
            if threshold is not None:
                now[role] = threshold.format
        return replace(layer, input=now["in"], output=now["out"], params=now["params"], bias=now["bias"])

    def update(self, share: float, iteration: int) -> None:
        """Take a step with the gradients of the last passes.

        Args:
            share: the solver's learning rate in relation to its first one.
            iteration: counted from 0.
        """
        for site, threshold in self.sites.items():
            gradient = threshold.tensor.grad
            if gradient is None:
                continue
            before = self._history.get(site) or (np.zeros_like(threshold.data),) * 2
            change, self._history[site] = step(_RULE, gradient.numpy(), before, self.rate * share, iteration)
            np.clip(threshold.data - change, _LEAST, _MOST, out=threshold.data)
            threshold.tensor.grad = None

    def state(self) -> dict[str, list[list[float]]]:
        """All numbers, by site, for a snapshot: the thresholds and Adam's two means."""
        zero = {site: (np.zeros_like(threshold.data),) * 2 for site, threshold in self.sites.items()}
        return {
            f"{role} {name}": [array.tolist() for array in (threshold.data, *self._history.get(site, zero[site]))]
            for site, threshold in self.sites.items()
            for name, role in (site,)
        }

    def restore(self, state: Mapping[str, list[list[float]]]) -> bool:
        """Take up a snapshot's numbers; False where they are those of other sites."""
        if state.keys() != self.state().keys():
            return False
        for (name, role), threshold in self.sites.items():
            arrays = [np.array(values, np.float32) for values in state[f"{role} {name}"]]
            if [array.shape for array in arrays] != [threshold.data.shape] * 3:
                return False
            threshold.data[:] = arrays[0]
            self._history[name, role] = (arrays[1], arrays[2])
        return True
