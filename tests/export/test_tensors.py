"""The files of integer arrays, read back by rules of their own."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.export.tensors import Tensor, dtype_for, files_of, hex_words, identifier, to_c, to_coe, to_hex, to_npy


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    bw, signed = draw(st.integers(1, 53)), draw(st.booleans())
    low, high = (-(1 << (bw - 1)), (1 << (bw - 1)) - 1) if signed else (0, (1 << bw) - 1)
    codes = draw(st.lists(st.sampled_from([low, high]) | st.integers(low, high), min_size=1, max_size=40))
    return Tensor(np.array(codes, np.int64), bw, signed, "O")


def as_number(word: str, tensor: Tensor) -> int:
    """What a register of the tensor's bits holds after a word was read into it."""
    assert re.fullmatch(r"[0-9a-f]+", word)
    bits = int(word, 16)
    assert bits < 1 << tensor.bw
    return bits - (1 << tensor.bw) if tensor.signed and bits >> (tensor.bw - 1) else bits


@given(tensors())
def test_hex_is_two_s_complement(tensor: Tensor) -> None:
    head, *words = to_hex(tensor, "weights").splitlines()
    assert head.startswith("// weights: ")
    assert [as_number(word, tensor) for word in words] == tensor.codes.tolist()
    assert {len(word) for word in words} == {-(-tensor.bw // 4)}


@given(tensors())
def test_coe_holds_the_same(tensor: Tensor) -> None:
    text = "".join(to_coe(tensor, "weights").splitlines()[1:])
    found = re.fullmatch(r"memory_initialization_radix=16;memory_initialization_vector=([0-9a-f,]*);", text)
    assert found is not None
    assert [as_number(word, tensor) for word in found[1].split(",")] == tensor.codes.tolist()


@given(tensors())
def test_c_array_holds_the_same(tensor: Tensor) -> None:
    text = to_c(tensor, "conv1/3x3 weights")
    name, inside = re.search(r"static const u?int\d+_t (\w+)\[\d+\] = \{([^}]*)\}", text).groups()  # type: ignore[union-attr]
    assert name == "conv1_3x3_weights"
    assert [int(word) for word in inside.replace("\n", "").split(",") if word.strip()] == tensor.codes.tolist()


@given(tensors())
def test_npy_holds_the_same(tensor: Tensor) -> None:
    array = np.load(io.BytesIO(to_npy(tensor)), allow_pickle=False)
    assert array.dtype == dtype_for(tensor.bw, tensor.signed)
    np.testing.assert_array_equal(array, tensor.codes)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_header_compiles(tmp_path: Path) -> None:
    """A C compiler sees the lengths and the numbers, those at the ends of their types too."""
    lines, checks = ["#include <stdio.h>"], []
    for bw in (1, 7, 8, 9, 16, 32, 53):
        for signed in (True, False):
            ends = [-(1 << (bw - 1)), (1 << (bw - 1)) - 1] if signed else [0, (1 << bw) - 1]
            name = f"end {bw} {'signed' if signed else 'unsigned'}"
            (tmp_path / f"{identifier(name)}.h").write_text(to_c(Tensor(np.array(ends), bw, signed, "O"), name))
            lines.append(f'#include "{identifier(name)}.h"')
            key = identifier(name)
            checks.append(f"if ({key.upper()}_LENGTH != 2 || {key.upper()}_BITS != {bw}) return 1;")
            checks += [f'printf("%lld\\n", (long long){key}[{place}]);' for place in (0, 1)]
            lines.append(f"/* {' '.join(map(str, ends))} */")
    source = tmp_path / "main.c"
    source.write_text("\n".join([*lines, "int main(void) {", *checks, "return 0; }"]))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(["gcc", *flags, "-o", tmp_path / "main", source], check=True, capture_output=True)
    out = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split()
    expected = [word for line in lines if line.startswith("/*") for word in line.split()[1:-1]]
    assert out == expected


def test_integers_that_do_not_fit_are_refused() -> None:
    for code, bw in ((16, 4), (-9, 4), (2, 1)):
        with pytest.raises(FormatError, match="does not fit"):
            hex_words(np.array([code]), bw)
    with pytest.raises(FormatError, match="fit no type"):
        dtype_for(65, signed=True)


def test_floats_are_npy_alone() -> None:
    tensor = Tensor(np.array([0.5, -1.25]), 0, True, "")
    [(kind, content)] = files_of(tensor, "blob", ("npy", "hex", "coe", "c"))
    assert kind == "npy"
    array = np.load(io.BytesIO(content))
    assert (array.dtype, array.tolist()) == (np.float32, [0.5, -1.25])


def test_titles_cannot_leave_their_comment() -> None:
    tensor = Tensor(np.array([1]), 4, True, "O")
    title = "a */ b\n1"
    assert to_c(tensor, title).count("*/") == 1
    assert to_hex(tensor, title).splitlines()[1:] == ["1"]
    assert to_coe(tensor, title).splitlines()[1:] == [
        "memory_initialization_radix=16;",
        "memory_initialization_vector=",
        "1;",
    ]
