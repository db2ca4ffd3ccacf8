"""What was done once changes nothing when it is done again; and what bits do for a single layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ristretto
from ristretto.formats import FixedPoint, LayerFormats
from tests.cli.runner import ristretto as program
from tests.metamorphic.nets import Array, Files, digits, quantizable
from tests.metamorphic.relation import EIGHT, compare, quantized, scores_of
from tests.metamorphic.rewrites import first_version, in_groups
from tests.metamorphic.test_no_ops import SEEDS, quiet


def test_upgraded_twice(tmp_path: Path) -> None:
    """V1 becomes today's form, which stays as it is; all three compute the same."""
    net = digits("lenet")
    files = net.write(tmp_path)
    files.model.write_text(first_version(net))
    paths, weights = ([tmp_path / f"{name}{n}" for n in (1, 2)] for name in ("net", "weights"))
    ristretto.upgrade(files.model, paths[0], files.weights, weights[0])
    ristretto.upgrade(*paths, *weights)
    assert paths[0].read_bytes() != files.model.read_bytes()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert weights[0].read_bytes() == weights[1].read_bytes()
    wanted = scores_of(net.write(tmp_path / "today"))
    for model, held in ((files.model, files.weights), (paths[0], weights[0])):
        compare(wanted, scores_of(Files(model, held, None)))


def test_folded_twice(tmp_path: Path) -> None:
    """A net folded before it is quantized gives what folding on the way gives; there is nothing to fold again."""
    net = digits("resnet")
    files = net.write(tmp_path)
    paths, weights = ([tmp_path / f"{name}{n}" for n in (1, 2)] for name in ("net", "weights"))
    assert ristretto.fold(files.model, files.weights, paths[0], weights[0]).folded
    assert not ristretto.fold(paths[0], weights[0], paths[1], weights[1]).folded
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert weights[0].read_bytes() == weights[1].read_bytes()
    before = quantized(Files(paths[0], weights[0], None), tmp_path / "before", "recommended")
    on_the_way = ristretto.quantize(
        files.model, files.weights, fold=True, weights_quantized=tmp_path / "w.caffemodel", weight_rounding="nearest",
        model_quantized=tmp_path / "q.prototxt", iterations=1, calibration_batches=1, calibration_phase="TEST",
        threads=1, bw_conv_params=8, bw_fc_params=8, bw_activations=8, **files.data,
    )  # fmt: skip
    assert dict(on_the_way.plan.layers) == before.formats
    compare(before.combined, on_the_way.combined.outputs)
    assert (tmp_path / "q.prototxt").read_bytes() == (tmp_path / "before" / "quantized.prototxt").read_bytes()


@pytest.mark.parametrize("dialect", ["original", "intel", "chaidnn"])
def test_a_dialect_there_and_back(dialect: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a dialect has said once it says again in the same words, and it computes the same."""
    files = digits("lenet").write(tmp_path)
    first, there, back = (tmp_path / name for name in ("first.prototxt", "there.prototxt", "back.prototxt"))
    few: dict[str, Any] = {"iterations": 1, "calibration_batches": 1, "threads": 1, **EIGHT, **files.data}
    report = ristretto.quantize(files.model, files.weights, model_quantized=first, dialect=dialect, **few)
    for source, target, to in ((first, there, "extended"), (there, back, dialect)):
        done = program(capsys, "convert-dialect", "--model", source, "--to", to, "--output", target)
        assert done.status == 0, done.err
    assert back.read_bytes() == first.read_bytes()
    compare(report.combined.outputs, scores_of(Files(there, files.weights, None)))


def test_a_quantized_net_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = quantizable(19).write(tmp_path)
    quantized(files, tmp_path, "original")
    again, result = tmp_path / "quantized.prototxt", tmp_path / "again.prototxt"
    arguments = ["--model", again, "--weights", files.weights, "--model_quantized", result, "--inputs", files.inputs]
    done = program(capsys, "quantize", *arguments, "--trimming_mode", "dynamic_fixed_point")
    assert done.status == 2
    assert "it is quantized already" in done.message
    assert not result.exists()


@pytest.mark.parametrize("mode", ["recommended", "minifloat", "powers of two"])
def test_exported_weights_are_on_their_grid(mode: str, tmp_path: Path) -> None:
    """A net whose weights have their quantized values gives the same when its formats are put back."""
    files = quantizable(23).write(tmp_path)
    outcome = quantized(files, tmp_path, mode)
    options = ["--target", "caffe", "--output", tmp_path / "plain", "--inputs", files.inputs]
    status = _quietly("export", "--model", tmp_path / "quantized.prototxt", "--weights", files.weights, *options)
    assert status == 0
    held = tmp_path / "plain" / "net.caffemodel"
    assert held.read_bytes() != files.weights.read_bytes()
    for arithmetic, scored in outcome.tests.items():
        again = Files(tmp_path / "quantized.prototxt", held, files.inputs)
        compare(scored, scores_of(again, arithmetic=arithmetic))


def _quietly(*words: object) -> int:
    from ristretto.cli.main import main

    return main([*map(str, words), "--quiet"])


@settings(quiet, max_examples=4)
@given(SEEDS, st.integers(0, 2), st.sampled_from([1, 2]))
def test_the_bound_of_a_layer(tmp_path_factory: pytest.TempPathFactory, seed: int, slack: int, groups: int) -> None:
    """What is proved of the error of a layer's result, and no more.

    With integer lengths that hold all values, rounding to ``bw`` bits moves each value by half a step at most (by a
    step at the end of the range, which lies one step below a power of two). A sum of products moves by no more than
    these moves add up to. That bound falls with every bit. The error of one sum need not, as errors of its terms can
    cancel; the mean square over all sums does in practice, and is held to it here in steps of two bits.
    """
    net = in_groups(seed, groups)[0]
    files = net.write(tmp_path_factory.mktemp("net"))
    loaded = ristretto.load_net(files.model, files.weights, threads=1)
    x = net.feeds["data"].astype(np.float64)
    weights, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    exact = convolved(x, weights, groups) + bias.reshape(1, -1, 1, 1)
    values = (x, exact, weights, bias)
    ils = [int(np.ceil(np.log2(np.abs(each).max()))) + 1 + slack for each in values]
    errors, bounds = [], []
    for bw in range(4, 17, 2):
        formats = [FixedPoint(bw, bw - il) for il in ils]
        dx, _, dw, db = (max(fmt.step / 2, np.abs(v).max() - fmt.max) for fmt, v in zip(formats, values, strict=True))
        by_x = dx * convolved(np.ones_like(x), np.abs(weights) + dw, groups)
        before = by_x + dw * convolved(np.abs(x), np.ones_like(weights), groups) + db
        output = formats[1]
        beyond = np.maximum(0.0, np.abs(exact) + before - output.max)
        bound = before + np.maximum(output.step / 2, beyond)
        found = loaded.with_formats({"conv": LayerFormats(*formats)}).run(net.feeds, ["y"])["y"]
        error = np.abs(found - exact)
        assert (error <= bound * (1 + 1e-5) + 1e-5).all()
        errors.append(float(np.mean(error**2)))
        bounds.append(float(bound.max()))
    assert bounds == sorted(bounds, reverse=True)
    assert errors == sorted(errors, reverse=True)


def convolved(x: Array, weights: Array, groups: int) -> Array:
    """A plain 3x3 convolution in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    parts = zip(np.split(windows, groups, axis=1), np.split(weights, groups), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", part, w) for part, w in parts], axis=1)


@settings(quiet, max_examples=6)
@given(SEEDS, st.integers(-3, 6))
def test_32_bits_keep_what_float32_holds(tmp_path_factory: pytest.TempPathFactory, seed: int, il: int) -> None:
    """Each value within half a step; none moves whose last bit is a step or more, but at the very end of the range."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((2, 4, 6, 6)) * 2.0 ** rng.integers(-12, il, (2, 4, 6, 6))).astype(np.float32)
    net, _ = in_groups(seed)
    files = net.write(tmp_path_factory.mktemp("net"))
    loaded = ristretto.load_net(files.model, files.weights, threads=1)
    fmt = FixedPoint(32, 32 - il)
    found = loaded.with_formats({"conv": LayerFormats(fmt)}).run({"data": x}, ["data"])["data"]
    inside = np.abs(x) < 2.0 ** (il - 1)
    error = np.abs(found.astype(np.float64) - x)
    assert (error[inside] <= fmt.step / 2).all()
    assert (error[inside & (np.spacing(np.abs(x)) >= fmt.step)] == 0).all()
    assert (np.abs(found[~inside]) == np.float32(2.0 ** (il - 1))).all()
