"""Rebuilds a net from the folder that target hardware writes, in plain integers of numpy, by docs/hardware.md alone.

Nothing of the package is imported: what the manifest does not say cannot be known here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[Any]


class Folder:
    """An export: its manifest, its arrays, and the net that they describe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = json.loads((path / "net.json").read_text())
        assert (self.manifest["schema"], self.manifest["version"]) == ("ristretto-hardware", 1)

    def array(self, files: Mapping[str, Any], kind: str = "npy") -> Codes:
        """An array, its file held to the checksum; text is read as one word a line."""
        entry = files[kind]
        content = (self.path / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        if kind == "npy":
            loaded: Codes = np.load(self.path / entry["file"], allow_pickle=False)
            return loaded
        lines = [line for line in content.decode().splitlines() if not line.startswith("//")]
        return np.array([int(line, 16) for line in lines])

    def vector(self, name: str) -> Codes:
        """What a value holds for the exported images."""
        return self.array(self.manifest["values"][name]["files"])

    def compute(self) -> dict[str, Codes]:
        """All values that the integers of the folder lead to, from what is fed, or made in float, on."""
        found: dict[str, Codes] = {name: self.vector(name) for name in self.manifest["inputs"]}
        for layer in self.manifest["layers"]:
            inputs = [found[name] for name in layer["inputs"]]
            if layer["op"] == "float":
                found |= {name: self.vector(name) for name in layer["outputs"]}
                continue
            results = _OPS[layer["op"]](self, layer, inputs)
            found |= dict(zip(layer["outputs"], results, strict=False))
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.manifest["values"][name]["shape"])


def divide(numbers: Codes, divisor: Codes | int, rounding: str) -> Codes:
    """Integers divided and rounded to integers."""
    floor = numbers // divisor
    twice = 2 * (numbers - floor * divisor)
    up = {
        "half_even": (twice > divisor) | ((twice == divisor) & (floor % 2 != 0)),
        "half_away": (twice > divisor) | ((twice == divisor) & (numbers >= 0)),
        "half_up": twice >= divisor,
        "truncate": np.zeros(np.shape(numbers), bool),
    }[rounding]
    return np.asarray(floor + up)


def finish(layer: Mapping[str, Any], exact: Codes, divisor: Codes | int = 1) -> Codes:
    """The exact result at the output's scale, rounded once and saturated, where the layer rounds at all."""
    if "rounding" not in layer:
        return exact
    shift = np.asarray(layer["shift"])
    if shift.ndim:  # one for each output channel, or one for all
        shift = shift.reshape(1, -1, *(1,) * (exact.ndim - 2)) if exact.ndim > 1 else shift
    up, down = np.maximum(-shift, 0), np.maximum(shift, 0)
    rounded = divide(exact << up, divisor * (np.int64(1) << down), layer["rounding"])
    return np.clip(rounded, layer["min"], layer["max"])


def accumulate(layer: Mapping[str, Any], sums: Codes) -> Codes:
    register = layer["accumulator"]
    half = 1 << (register["bits"] - 1)
    if register["overflow"] == "wrap":
        return np.asarray((sums + half) % (2 * half) - half)
    return np.clip(sums, -half, half - 1) if register["overflow"] == "saturate" else sums


def _weighted(folder: Folder, layer: Mapping[str, Any], products: Codes) -> Codes:
    """Sums of products (images, outputs, ...) with the bias, through the accumulator, rounded."""
    assert layer["accumulator"]["fl"] == [fl + layer["input"]["fl"] for fl in layer["weights"]["fl"]]
    if "bias" in layer:
        bias = folder.array(layer["bias"]["files"]).astype(np.int64)
        products = products + bias.reshape(-1, *(1,) * (products.ndim - 2))
    return finish(layer, accumulate(layer, products))


def _fc(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    weights = folder.array(layer["weights"]["files"]).astype(np.int64)
    rows = inputs[0].reshape(-1, weights.shape[1])
    made = _weighted(folder, layer, rows @ weights.T)
    return [made.reshape(folder.shape(layer["outputs"][0]))]


def _conv(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    weights = folder.array(layer["weights"]["files"]).astype(np.int64)
    return [
        _weighted(folder, layer, _products(codes, weights, layer, folder.shape(name)))
        for codes, name in zip(inputs, layer["outputs"], strict=True)
    ]


def _products(codes: Codes, weights: Codes, layer: Mapping[str, Any], shape: tuple[int, ...]) -> Codes:
    (ph, pw), (sh, sw), (dh, dw), group = layer["pad"], layer["stride"], layer["dilation"], layer["group"]
    padded = np.pad(codes, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    sums = np.zeros(shape, np.int64)
    ins, outs = weights.shape[1], len(weights) // group
    for part in range(group):
        mine = padded[:, part * ins : (part + 1) * ins]
        for i, j in np.ndindex(*weights.shape[2:]):
            rows = slice(i * dh, i * dh + (shape[2] - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (shape[3] - 1) * sw + 1, sw)
            own = slice(part * outs, (part + 1) * outs)
            sums[:, own] += np.einsum("nchw,oc->nohw", mine[:, :, rows, columns], weights[own, :, i, j])
    return sums


def _deconv(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    weights = folder.array(layer["weights"]["files"]).astype(np.int64)
    (ph, pw), (sh, sw), (dh, dw), group = layer["pad"], layer["stride"], layer["dilation"], layer["group"]
    results = []
    for codes, name in zip(inputs, layer["outputs"], strict=True):
        n, _, high, wide = folder.shape(name)
        sums = np.zeros((n, layer["num_output"], high + 2 * ph, wide + 2 * pw), np.int64)
        ins, outs = codes.shape[1] // group, weights.shape[1]
        for part in range(group):
            mine = slice(part * ins, (part + 1) * ins)
            own = slice(part * outs, (part + 1) * outs)
            for i, j in np.ndindex(*weights.shape[2:]):
                rows = slice(i * dh, i * dh + (codes.shape[2] - 1) * sh + 1, sh)
                columns = slice(j * dw, j * dw + (codes.shape[3] - 1) * sw + 1, sw)
                sums[:, own, rows, columns] += np.einsum("nihw,io->nohw", codes[:, mine], weights[mine, :, i, j])
        results.append(_weighted(folder, layer, sums[:, :, ph : ph + high, pw : pw + wide]))
    return results


def _windows(folder: Folder, layer: Mapping[str, Any], codes: Codes, fill: int) -> Codes:
    """The elements of each window along the last axis, with what lies beyond the image filled."""
    (kh, kw), (sh, sw), (ph, pw) = layer["kernel"], layer["stride"], layer["pad"]
    high, wide = folder.shape(layer["outputs"][0])[2:]
    below = max(0, (high - 1) * sh + kh - ph - codes.shape[2])
    right = max(0, (wide - 1) * sw + kw - pw - codes.shape[3])
    padded = np.pad(codes, ((0, 0), (0, 0), (ph, below), (pw, right)), constant_values=fill)
    return np.stack(
        [
            padded[:, :, i : i + (high - 1) * sh + 1 : sh, j : j + (wide - 1) * sw + 1 : sw]
            for i, j in np.ndindex(kh, kw)
        ],
        axis=-1,
    )


def _max_pool(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    least = int(np.iinfo(np.int64).min)
    return [finish(layer, _windows(folder, layer, inputs[0], least).max(axis=-1))]


def _average_pool(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    sums = _windows(folder, layer, inputs[0], 0).sum(axis=-1)
    return [finish(layer, sums, np.asarray(layer["divisor"], np.int64))]


def _quantize(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    fl = folder.manifest["values"][layer["outputs"][0]]["fl"]
    scaled = np.clip(np.ldexp(inputs[0].astype(np.float64), fl), layer["min"], layer["max"])
    floor = np.floor(scaled)
    # Where the fraction lies beside a half is all that counts: below, at, or above it.
    side = np.sign(scaled - floor - 0.5).astype(np.int64)
    quarters = 4 * floor.astype(np.int64) + 2 + side
    return [divide(quarters, 4, layer["rounding"]).clip(layer["min"], layer["max"])]


def _requantize(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    return [finish(layer, inputs[0])]


def _add(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    terms = zip(inputs, layer["factors"], layer["shifts"], strict=True)
    return [finish(layer, np.asarray(sum(factor * (codes << shift) for codes, factor, shift in terms)))]


def _multiply(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    return [finish(layer, np.prod(np.stack(inputs), axis=0))]


def _maximum(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    return [finish(layer, np.max([codes << shift for codes, shift in zip(inputs, layer["shifts"], strict=True)], 0))]


def _concat(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    parts = [codes << shift for codes, shift in zip(inputs, layer["shifts"], strict=True)]
    return [finish(layer, np.concatenate(parts, layer["axis"]))]


def _slice(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    places = np.cumsum(layer["lengths"])[:-1]
    return [finish(layer, part) for part in np.split(inputs[0], places, layer["axis"])]


def _shuffle(folder: Folder, layer: Mapping[str, Any], inputs: list[Codes]) -> list[Codes]:
    n, channels, *rest = inputs[0].shape
    parts = inputs[0].reshape(n, layer["group"], channels // layer["group"], *rest)
    return [finish(layer, parts.swapaxes(1, 2).reshape(inputs[0].shape))]


Rule = Callable[[Folder, Mapping[str, Any], "list[Codes]"], "list[Codes]"]

_OPS: dict[str, Rule] = {
    "quantize": _quantize,
    "requantize": _requantize,
    "fc": _fc,
    "conv": _conv,
    "deconv": _deconv,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "add": _add,
    "multiply": _multiply,
    "maximum": _maximum,
    "concat": _concat,
    "slice": _slice,
    "shuffle_channels": _shuffle,
    "relu": lambda folder, layer, inputs: [finish(layer, np.maximum(inputs[0], 0))],
    "clip": lambda folder, layer, inputs: [finish(layer, np.clip(inputs[0], layer["low"], layer["high"]))],
    "copy": lambda folder, layer, inputs: [finish(layer, inputs[0]) for _ in layer["outputs"]],
    "permute": lambda folder, layer, inputs: [finish(layer, inputs[0].transpose(layer["order"]))],
    "reshape": lambda folder, layer, inputs: [
        finish(layer, inputs[0].reshape(folder.shape(name))) for name in layer["outputs"]
    ],
}
