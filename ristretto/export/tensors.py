"""Arrays of integers as files: .npy, text for $readmemh, Xilinx's .coe, C headers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristretto.errors import FormatError

FORMATS = ("npy", "hex", "coe", "c")
"""The kinds of files."""

SUFFIXES = {"npy": ".npy", "hex": ".hex", "coe": ".coe", "c": ".h"}

_PER_LINE = 16


@dataclass(frozen=True, slots=True)
class Tensor:
    """Integers that a step owns.

    Attributes:
        codes: the integers; a float array where the layer computes in float.
        bw: their bits; 0 for floats.
        signed: whether they are in two's complement.
        layout: what the axes count, a letter each.
        facts: what else the manifest says of them.
    """

    codes: NDArray[Any]
    bw: int
    signed: bool
    layout: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> NDArray[Any]:
        """The array in the narrowest type of numpy that holds its bits; floats as float32."""
        if not self.bw:
            return np.ascontiguousarray(self.codes, np.float32)
        return np.ascontiguousarray(self.codes, dtype_for(self.bw, self.signed))


def dtype_for(bw: int, signed: bool) -> np.dtype[Any]:
    """The narrowest type of numpy that holds integers of some bits.

    >>> dtype_for(9, True), dtype_for(8, False)
    (dtype('int16'), dtype('uint8'))

    Raises:
        FormatError: none does.
    """
    for size in (8, 16, 32, 64):
        if bw <= size:
            return np.dtype(f"{'' if signed else 'u'}int{size}")
    raise FormatError(f"integers of {bw} bits fit no type", cure="choose narrower formats")


def hex_words(codes: NDArray[Any], bw: int, between: str = "\n") -> str:
    """Integers as hexadecimal digits of their two's complement in so many bits, without a prefix.

    >>> hex_words(np.array([-1, 5, -8]), 4, " ")
    'f 5 8'

    Args:
        codes: the integers, in C order.
        bw: bits of each, 1 to 63.
        between: what stands between two of them.

    Raises:
        FormatError: one needs more bits.
    """
    flat = np.asarray(codes, np.int64).ravel()
    if flat.size and not -(1 << (bw - 1)) <= int(flat.min()) <= int(flat.max()) < 1 << bw:
        raise FormatError(f"an integer does not fit in {bw} bits", cure="choose a wider format")
    digits = -(-bw // 4)
    # Large layers have millions of weights: all words at once, as columns of characters.
    characters = np.frombuffer((flat & ((1 << bw) - 1)).astype(">u8").tobytes().hex().encode(), np.uint8)
    gap = np.tile(np.frombuffer(between.encode(), np.uint8), (flat.size, 1))
    text = np.hstack([characters.reshape(flat.size, 16)[:, 16 - digits :], gap]).tobytes().decode()
    return text[: len(text) - len(between)]


def to_npy(tensor: Tensor) -> bytes:
    """The array as NumPy's own file, in C order."""
    file = io.BytesIO()
    np.save(file, tensor.stored(), allow_pickle=False)
    return file.getvalue()


def to_hex(tensor: Tensor, title: str) -> str:
    """One integer a line, in C order, for Verilog's $readmemh."""
    return f"// {_comment(tensor, title)}\n{hex_words(tensor.codes, tensor.bw)}\n"


def to_coe(tensor: Tensor, title: str) -> str:
    """The initial content of a Xilinx memory, an integer a word."""
    words = hex_words(tensor.codes, tensor.bw, ",\n")
    head = "memory_initialization_radix=16;\nmemory_initialization_vector=\n"
    return f"; {_comment(tensor, title)}\n{head}{words};\n"


def to_c(tensor: Tensor, title: str) -> str:
    """A C99 header with one array and its length."""
    name = identifier(title)
    kind = f"{dtype_for(tensor.bw, tensor.signed)}_t"
    values = [str(code) for code in tensor.codes.ravel().tolist()]
    rows = (", ".join(values[start : start + _PER_LINE]) for start in range(0, len(values), _PER_LINE))
    guard = f"{name.upper()}_H"
    lines = [
        f"/* {_comment(tensor, title).replace('*/', '* /')} */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        f"#define {name.upper()}_LENGTH {len(values)}",
        f"#define {name.upper()}_BITS {tensor.bw}",
        "",
        f"static const {kind} {name}[{len(values)}] = {{",
        *(f"    {row}," for row in rows),
        "};",
        "",
        "#endif",
    ]
    return "".join(f"{line}\n" for line in lines)


def files_of(tensor: Tensor, title: str, formats: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The files of an array: kind and content. Floats are .npy alone.

    Args:
        tensor: the array.
        title: what it is, in one line; the name of the array in C follows from it.
        formats: the kinds wanted.
    """
    yield "npy", to_npy(tensor)
    if not tensor.bw:
        return
    texts = {"hex": to_hex, "coe": to_coe, "c": to_c}
    for kind in formats:
        if kind in texts:
            yield kind, texts[kind](tensor, title).encode()


def identifier(text: str) -> str:
    """A name that C and Verilog take.

    >>> identifier("inception_3a/1x1 weights"), identifier("3x3")
    ('inception_3a_1x1_weights', 'n3x3')
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if re.match(r"[A-Za-z]", name) else f"n{name}"


def _comment(tensor: Tensor, title: str) -> str:
    shape = " x ".join(map(str, tensor.codes.shape)) or "1"
    sign = "two's complement" if tensor.signed else "unsigned"
    layout = f", {tensor.layout}" if tensor.layout else ""
    printable = "".join(char if char.isprintable() else "?" for char in title)
    return f"{printable}: {shape}{layout}, the last axis runs fastest; {tensor.bw} bits, {sign}"
