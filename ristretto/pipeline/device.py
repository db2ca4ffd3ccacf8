"""Where nets are run: on the CPU, or on the CUDA device that --gpu names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from ristretto.errors import DeviceError, NetError, UsageError
from ristretto.graph.nodes import OPSET
from ristretto.runtime.session import Session, has_cuda

_current: ContextVar[int | None] = ContextVar("device", default=None)


@dataclass(frozen=True, slots=True)
class Device:
    """Where a job runs.

    Attributes:
        number: of the CUDA device; None for the CPU.
        reason: why it is the CPU although a device was asked for, else "".
    """

    number: int | None = None
    reason: str = ""


def current_device() -> int | None:
    """The device of the job at hand; what runs a net asks for it when it is made."""
    return _current.get()


@contextmanager
def on_device(asked: str) -> Iterator[Device]:
    """Run what is inside on a device.

    Args:
        asked: what --gpu was given, see ``find_device``.
    """
    device = find_device(asked)
    token = _current.set(device.number)
    try:
        yield device
    finally:
        _current.reset(token)


def find_device(asked: str) -> Device:
    """The device that --gpu names; the CPU, and why, where it cannot be used.

    Args:
        asked: a number; of several, as in "0,1", the first; "all" is 0; "" and negative numbers are the CPU.

    Raises:
        UsageError: it is none of these.
    """
    first = asked.split(",")[0].strip()
    if not first:
        return Device()
    if first != "all" and not re.fullmatch(r"-?\d+", first):
        raise UsageError(f"--gpu {asked}: expected the number of a device", cure="give 0 for the first one")
    number = 0 if first == "all" else int(first)
    if number < 0:
        return Device()
    if not has_cuda():
        return Device(reason="this onnxruntime has no CUDA (the package onnxruntime-gpu does)")
    try:
        _try(number)
    except (DeviceError, NetError) as error:
        return Device(reason=f"{error.what} ({error.cure})" if isinstance(error, DeviceError) else error.what)
    return Device(number)


def _try(number: int) -> None:
    """Run a model of one node."""
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [shape], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    Session(model.SerializeToString(), threads=1, device=number).run({"x": np.ones(1, np.float32)}, ["y"])
