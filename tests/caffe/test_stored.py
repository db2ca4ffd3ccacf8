"""Where results are stored, on nets small enough to say it by hand."""

from __future__ import annotations

import pytest

from ristretto.caffe.net import build_net
from ristretto.caffe.stored import Stored, stored_results
from ristretto.caffe.textproto import parse


def layer(name: str, kind: str, bottoms: str, top: str, fields: str = "") -> str:
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {fields} }}'


def conv(name: str, bottom: str) -> str:
    return layer(name, "Convolution", bottom, name, "convolution_param { num_output: 2 kernel_size: 1 }")


def stored(*layers: str, sums: tuple[str, ...] = ()) -> dict[str, Stored]:
    head = 'input: "x" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4'
    net = build_net(parse("\n".join([head, *layers]) + "\n", "net.prototxt"))
    quantized = {item.name for item in net.layers if item.type == "Convolution"} | set(sums)
    return stored_results(net, quantized, sums)


@pytest.mark.parametrize(
    ("between", "top", "expected"),
    [
        ((), "a", Stored(("b",))),
        ((layer("r", "ReLU", "a", "a"),), "a", Stored(("b",))),
        ((layer("r", "ReLU", "a", "a", "relu_param { negative_slope: 0.1 }"),), "a", Stored(wide=True)),
        ((layer("c", "Clip", "a", "c", "clip_param { min: 0 max: 6 }"),), "c", Stored(("b",))),
        ((layer("c", "Clip", "a", "c", "clip_param { min: -1 max: 6 }"),), "c", Stored(wide=True)),
        ((layer("p", "Pooling", "a", "p", "pooling_param { kernel_size: 2 }"),), "p", Stored(("b",))),
        ((layer("p", "Pooling", "a", "p", "pooling_param { pool: AVE kernel_size: 2 }"),), "p", Stored(wide=True)),
        ((layer("s", "Sigmoid", "a", "s"),), "s", Stored(wide=True)),
    ],
)
def test_what_lies_between(between: tuple[str, ...], top: str, expected: Stored) -> None:
    found = stored(conv("a", "x"), *between, conv("b", top))
    assert found["a"] == expected
    # What leaves the net is not stored.
    assert found["b"] == Stored(wide=True)


def test_all_readers_count() -> None:
    assert stored(conv("a", "x"), conv("b", "a"), conv("c", "a"))["a"] == Stored(("b", "c"))
    joined = stored(conv("a", "x"), conv("b", "x"), layer("j", "Concat", "a b", "j"), conv("c", "j"))
    assert joined["a"] == joined["b"] == Stored(("c",))
    assert stored(conv("a", "x"), conv("b", "a"), layer("s", "Sigmoid", "a", "s"))["a"] == Stored(wide=True)


def residual(*, relu: str = "") -> tuple[str, ...]:
    """A block: x goes through a; a's result, rectified or not, through b, and both are added."""
    after = layer("r", "ReLU", "a", "a") if relu == "before" else ""
    own = layer("r", "ReLU", "a", "r") if relu == "beside" else ""
    read = "r" if relu == "beside" else "a"
    return tuple(
        text for text in (conv("a", "x"), after, own, conv("b", read), layer("s", "Eltwise", "a b", "s")) if text
    )


def test_a_sum_that_is_no_site_keeps_its_operands_wide() -> None:
    found = stored(*residual(), conv("c", "s"))
    assert found["a"] == found["b"] == Stored(wide=True)


def test_a_sum_reads_what_is_stored_and_the_last_operand_from_the_accumulator() -> None:
    found = stored(*residual(relu="before"), conv("c", "s"), sums=("s",))
    assert found == {"a": Stored(("b",)), "b": Stored(wide=True), "s": Stored(("c",)), "c": Stored(wide=True)}


def test_an_operand_that_waits_is_stored_in_a_format_of_its_own() -> None:
    layers = (conv("a", "x"), conv("b", "x"), layer("s", "Eltwise", "b a", "s"), conv("c", "s"))
    assert stored(*layers, sums=("s",))["a"] == Stored()
    assert stored(*layers, sums=("s",))["b"] == Stored(wide=True)


def test_a_sum_that_reads_before_the_relu_is_not_given_the_readers_unsigned_format() -> None:
    assert stored(*residual(relu="beside"), conv("c", "s"), sums=("s",))["a"] == Stored(wide=True)
    assert stored(*residual(relu="before"), conv("c", "s"), sums=("s",))["a"] == Stored(("b",))


def test_a_sum_of_sums() -> None:
    found = stored(
        *residual(), layer("r2", "ReLU", "s", "s"), conv("d", "s"), layer("t", "Eltwise", "s d", "t"), sums=("s", "t")
    )
    assert found["s"] == Stored(("d",))
    assert found["t"] == Stored(wide=True)
