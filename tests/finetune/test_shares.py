"""Work in parts: the values and gradients of torch's own operations, and the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.weights import read_weights
from ristretto.finetune import shares
from ristretto.finetune.backend import functional, torch
from ristretto.finetune.channels import normalized, scaled, standardized
from ristretto.finetune.products import convolve, linear
from ristretto.finetune.rounding import rounded_activation, straight_through
from ristretto.finetune.shares import bounds, imagewise, threads
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.pipeline.finetune import FinetuneOptions, finetune
from tests.cli.runner import MODELS
from tests.finetune.needed import needs_torch

pytestmark = needs_torch

Run = Callable[..., Any]


@pytest.fixture
def _fine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every axis is cut, and the parts go to three threads."""
    monkeypatch.setattr(shares, "LEAST", 1)
    with threads(3):
        yield


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(seed).normal(0, 1, shape), requires_grad=True)


def assert_same(mine: Run, theirs: Run, *given: Any) -> None:
    """The same values, and the same gradients of everything given."""
    found, wanted = mine(*given), theirs(*given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weight = torch.tensor(np.random.default_rng(9).normal(0, 1, wanted.shape))
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), given), torch.autograd.grad((wanted * weight).sum(), given),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_parts_cover_an_axis_in_order() -> None:
    for length in (1, 2, 7, 100):
        for work in (0, shares.LEAST, 3 * shares.LEAST, 10**12):
            parts = bounds(length, work)
            assert [place for part in parts for place in range(*part)] == list(range(length))
            assert len(parts) == max(1, min(shares.PARTS, length, work // shares.LEAST))


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("group", "stride", "pad", "dilation"), [(1, 1, 0, 1), (2, 2, 1, 1), (4, 1, 2, 2)])
def test_convolutions(group: int, stride: int, pad: int, dilation: int, transposed: bool) -> None:
    x, bias = drawn(5, 4, 7, 6), drawn(8, seed=2)
    weight = drawn(4, 8 // group, 3, 2, seed=1) if transposed else drawn(8, 4 // group, 3, 2, seed=1)

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        if transposed:
            return functional.conv_transpose2d(x, weight, bias, stride, pad, 0, group, dilation)
        return functional.conv2d(x, weight, bias, stride, pad, dilation, group)

    def mine(x: Any, weight: Any, bias: Any) -> Any:
        how = ((stride,) * 2, (pad,) * 2, (dilation,) * 2, group)
        return convolve(x, weight, bias, *how, transposed=transposed)

    assert_same(mine, theirs, x, weight, bias)
    assert_same(lambda x, weight: mine(x, weight, None), lambda x, weight: theirs(x, weight, None), x, weight)


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("shape", [(5, 6), (3, 2, 6)])
def test_matrix_products(shape: tuple[int, ...]) -> None:
    assert_same(linear, functional.linear, drawn(*shape), drawn(9, 6, seed=1), drawn(9, seed=2))
    assert_same(linear, functional.linear, drawn(*shape), drawn(9, 6, seed=1))


@pytest.mark.usefixtures("_fine")
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3, 2), (2, 9, 4)])
def test_channels(shape: tuple[int, ...]) -> None:
    x, factors, summands = drawn(*shape), drawn(shape[1], seed=1), drawn(shape[1], seed=2)
    across = (1, -1, *(1,) * (len(shape) - 2))
    axes = [axis for axis in range(len(shape)) if axis != 1]
    mean, spread = torch.linspace(-1, 1, shape[1]), torch.linspace(1, 2, shape[1])

    def by_statistics(x: Any) -> Any:
        centred = x - x.mean(axes, keepdim=True)
        return centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + 1e-3)

    assert_same(lambda x: normalized(x, 1e-3)[0], by_statistics, x)
    assert_same(
        lambda x: standardized(x, mean, spread), lambda x: (x - mean.reshape(across)) / spread.reshape(across), x
    )
    assert_same(scaled, lambda x, f, s: x * f.reshape(across) + s.reshape(across), x, factors, summands)
    assert_same(lambda x, f: scaled(x, f, None), lambda x, f: x * f.reshape(across), x, factors)
    found = normalized(x, 1e-3)
    torch.testing.assert_close(found[1].flatten(), x.mean(axes))
    torch.testing.assert_close(found[2].flatten(), x.var(axes, correction=0))


@pytest.mark.usefixtures("_fine")
def test_rounding_is_as_before_it_was_cut() -> None:
    fmt = DynamicFixedPoint(4, 2)
    x = torch.linspace(-3, 3, 97).repeat(3, 1).requires_grad_()
    whole = straight_through(torch.clamp(x, fmt.min, fmt.max), torch.from_numpy(fmt.quantize(x.detach().numpy())))
    found = rounded_activation(x, fmt)
    assert torch.equal(found, whole)
    gradients = [torch.autograd.grad(made.square().sum(), x)[0] for made in (found, whole)]
    assert torch.equal(*gradients)
    assert torch.equal(gradients[0] != 0, (x >= fmt.min) & (x <= fmt.max) & (found != 0))


@pytest.mark.usefixtures("_fine")
def test_operations_on_each_image() -> None:
    x = drawn(7, 2, 6, 6)
    pool = lambda value: functional.max_pool2d(torch.relu(value), 2)  # noqa: E731
    assert_same(lambda value: imagewise(pool, value), pool, x)
    assert not imagewise(pool, x.detach()).requires_grad


def test_torch_is_left_with_the_threads_it_had() -> None:
    before = torch.get_num_threads()
    for count in (1, 3):
        with threads(count):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("flags", [{}, {"quantize_activations": True, "weight_rounding": "half_even"}])
@pytest.mark.parametrize("name", ["digits_lenet", "digits_resnet"])
def test_a_training_is_the_same_with_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, flags: dict[str, Any]
) -> None:
    net = (MODELS / name / "train_val.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "s"'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shares, "LEAST", 1 << 14)
    trained = []
    for count in (1, 2, 5):
        found = finetune(
            FinetuneOptions(
                solver=Path("solver.prototxt"), weights=(MODELS / name / f"{name}.caffemodel",), data_root=MODELS,
                threads=count, output=Path(f"{count}.caffemodel"), **flags,
            )
        )  # fmt: skip
        trained.append((found.losses, Path(f"{count}.caffemodel").read_bytes()))
    assert trained[0] == trained[1] == trained[2]
    before = read_weights([MODELS / name / f"{name}.caffemodel"]).layers
    assert any((a.blobs[0] != b.blobs[0]).any() for a, b in zip(before, read_weights([Path("1.caffemodel")]).layers,
                                                                 strict=False) if a.blobs)  # fmt: skip
