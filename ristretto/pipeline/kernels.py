"""Which kernels a net is run with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import get_args

import numpy as np

from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.parameters import Blobs
from ristretto.errors import UsageError
from ristretto.graph.build import Simulation
from ristretto.graph.finite import stays_finite
from ristretto.graph.kernels import Kernels
from ristretto.graph.probes import Probe, joined, pair_probes, probes
from ristretto.numerics.arithmetic import Arithmetic
from ristretto.runtime.session import Session

SWITCH = "RISTRETTO_KERNELS"
"""The environment variable that says which kernels to use; the scores are the same."""


def kernels_for(net: NetSpec, blobs: Sequence[Blobs], simulation: Simulation, device: int | None = None) -> Kernels:
    """The fastest kernels that compute what plain ones do, as long as what is fed is finite.

    Args:
        net: the net.
        blobs: its weights, as ``fit_weights`` gives them.
        simulation: how it is simulated.
        device: the GPU that it runs on, or None; the faster kernels are a CPU's.

    Raises:
        UsageError: the environment asks for kernels that there are not.
    """
    if device is not None:
        return "plain"
    if not simulation.formats or simulation.arithmetic is not Arithmetic.FLOAT32 or not stays_finite(net, blobs):
        return "plain"
    asked = os.environ.get(SWITCH)
    if asked not in (None, "", *get_args(Kernels)):
        cure = f"set it to one of {', '.join(get_args(Kernels))}"
        raise UsageError(f"{SWITCH}={asked}: there are no such kernels", cure=cure)
    if asked == "plain":
        return "plain"
    if asked == "rounding":
        return "rounding"
    if asked != "pairs" and exact_integer_kernels():
        return "integers"
    return "pairs" if exact_in_pairs() else "rounding"


@cache
def exact_integer_kernels() -> bool:
    """Whether this machine's integer kernels are exact; tried once."""
    return _are_exact(list(probes()))


@cache
def exact_in_pairs() -> bool:
    """Whether they are where two products fit into 16 bits, or weights have no sign; tried once."""
    return _are_exact(list(pair_probes()))


def _are_exact(several: Sequence[Probe]) -> bool:
    fed = {f"x{number}": probe.x for number, probe in enumerate(several)}
    session = Session(joined(several).SerializeToString(), threads=1, keep_layout=True)
    made = session.run(fed, [f"y{number}" for number in range(len(several))])
    return all(bool(np.all(made[f"y{number}"] == probe.expected)) for number, probe in enumerate(several))
