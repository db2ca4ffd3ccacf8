"""A batch in pieces gives what the whole gives: scores, ranges and losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import Weights, read_weights
from ristretto.decide.plan import CONV_TYPES
from ristretto.errors import DataError
from ristretto.graph.build import Simulation
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.numerics.rounding import Rounding
from ristretto.pipeline import pieces
from ristretto.pipeline.feed import Batch, open_feed
from ristretto.pipeline.pieces import Pieces, abreast, in_pieces, overlapped
from ristretto.pipeline.runner import Runner
from tests.golden.shared import SHARED, needs_shared

MODELS = Path(__file__).parents[2] / "models"
FMT = DynamicFixedPoint(8, 5)


def net_of(name: str, phase: str = "TEST") -> tuple[NetSpec, Weights]:
    net = build_net(read_prototxt(MODELS / name / "train_val.prototxt"), NetState(phase))  # type: ignore[arg-type]
    return net, read_weights([MODELS / name / f"{name}.caffemodel"])


def batch_of(net: NetSpec, images: int | None = None) -> Batch:
    batch = next(open_feed(net, inputs=None, data_root=MODELS, seed=0).batches())
    return {blob: array[:images] for blob, array in batch.items()}


def formats_of(net: NetSpec) -> dict[str, LayerFormats]:
    kinds = CONV_TYPES | {"InnerProduct"}
    return {layer.name: LayerFormats(FMT, FMT, FMT, FMT) for layer in net.layers if layer.type in kinds}


@pytest.mark.parametrize("name", ["digits_lenet", "digits_resnet"])
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
@pytest.mark.parametrize("images", [None, 31])
@pytest.mark.parametrize("quantized", [False, True])
def test_scores_ranges_and_losses(
    monkeypatch: pytest.MonkeyPatch, name: str, phase: str, images: int | None, quantized: bool
) -> None:
    net, weights = net_of(name, phase)
    batch = batch_of(net, images)
    values = [value for layer in net.layers for value in layer.outputs if layer.type != "Accuracy"]
    outputs = [net.finals[blob] for blob in net.outputs]
    simulation = Simulation(formats_of(net) if quantized else {})
    asked = [] if quantized else [(value, FMT) for value in values[2:]]
    measured = [] if quantized else values

    def runner() -> Runner:
        return Runner(net, weights, [*outputs, *values], measured, simulation, 1, asked)

    whole, wanted = runner().run(batch), runner().losses(batch) if asked else {}
    for size in (2, 7, 10):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size * _largest(net, weights, batch))
        split = Pieces(runner())
        found, ranges = split.run(batch)
        assert split._split(batch) is not None
        for value in [*outputs, *values]:
            np.testing.assert_array_equal(found[value], whole[0][value], err_msg=value)
        assert ranges == whole[1]
        for key, lost in (split.losses(batch) if asked else {}).items():
            # The sample of a large value's elements is another; small values are summed up whole.
            assert lost == pytest.approx(wanted[key], rel=0.2, abs=1e-4)


def _largest(net: NetSpec, weights: Weights, batch: Batch) -> int:
    shapes = Runner(net, weights, [net.finals[net.outputs[0]]]).prepare({b: a.shape for b, a in batch.items()})
    return max(4 * int(np.prod(shape[1:])) for shape in shapes.values() if len(shape) > 1)


def test_small_batches_and_other_nets_stay_whole() -> None:
    net, weights = net_of("digits_lenet")
    batch = batch_of(net)
    assert Pieces(Runner(net, weights, [net.finals[net.outputs[0]]]))._split(batch) is None
    assert len(in_pieces(net, batch)) == 1
    text = (
        'input: "x" input_dim: 64 input_dim: 64 input_dim: 256 input_dim: 256 '
        'layer { name: "p" type: "Permute" bottom: "x" top: "p" permute_param { order: 1 order: 0 } }'
    )
    turned = build_net(parse(text, "net.prototxt"))
    x = np.zeros((64, 64, 256, 256), np.float32)
    assert len(in_pieces(turned, {"x": x})) == 32  # only what is fed comes by image


def test_no_piece_has_a_single_image(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = net_of("digits_lenet")
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    for images in (3, 4, 5, 7):
        assert min(len(piece["data"]) for piece in in_pieces(net, batch_of(net, images))) >= 2


def test_a_wrong_label_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net, weights = net_of("digits_lenet")
    batch = batch_of(net)
    batch["label"] = batch["label"].copy()
    batch["label"][-1] = 10
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    with pytest.raises(DataError, match="label 10 of image 49 in blob 'label', the net has 10 classes"):
        Pieces(Runner(net, weights, [net.finals[net.outputs[0]]])).run(batch)


@needs_shared
@pytest.mark.parametrize(
    ("folder", "prototxt", "caffemodel", "images"),
    [
        ("squeezenet_v1.0", "train_val", "squeezenet_v1.0", 6),
        ("cifar10_resnet20", "train_test", "resnet20", 20),
        ("cifar10_mobilenetv2_small", "train_val", "mobilenetv2_small", 20),
        ("cifar10_quick", "train_test", "cifar10_quick_iter_5000", 20),
    ],
)
def test_real_nets(monkeypatch: pytest.MonkeyPatch, folder: str, prototxt: str, caffemodel: str, images: int) -> None:
    monkeypatch.chdir(SHARED)
    net = build_net(read_prototxt(SHARED / "models" / folder / f"{prototxt}.prototxt"))
    weights = read_weights([SHARED / "models" / folder / f"{caffemodel}.caffemodel"])
    batch = next(open_feed(net, inputs=None, data_root=None, seed=0).batches())
    batch = {blob: array[:images] for blob, array in batch.items()}
    outputs = [net.finals[blob] for blob in net.outputs]
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3 * _largest(net, weights, batch))
    for simulation in (Simulation(), Simulation(formats_of(net))):
        runner = Runner(net, weights, outputs, (), simulation)
        split = Pieces(Runner(net, weights, outputs, (), simulation))
        assert split._split(batch) is not None
        for value, expected in runner.run(batch)[0].items():
            np.testing.assert_array_equal(split.run(batch)[0][value], expected)


@pytest.mark.parametrize(
    ("pieces", "threads", "expected"),
    [(1, 8, 1), (2, 1, 1), (2, 2, 2), (25, 2, 2), (3, 2, 2), (3, 4, 2), (4, 16, 4), (100, 16, 4), (3, 16, 2)],
)
def test_how_many_pieces_run_side_by_side(pieces: int, threads: int, expected: int) -> None:
    assert abreast(pieces, threads) == expected


@pytest.mark.parametrize("name", ["digits_lenet", "digits_resnet"])
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("quantized", [False, True])
def test_side_by_side_is_the_same(monkeypatch: pytest.MonkeyPatch, name: str, threads: int, quantized: bool) -> None:
    net, weights = net_of(name)
    batch = batch_of(net)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3 * _largest(net, weights, batch))
    values = [value for layer in net.layers for value in layer.outputs if layer.type != "Accuracy"]
    outputs = [net.finals[blob] for blob in net.outputs]
    simulation = Simulation(formats_of(net) if quantized else {})
    other = {blob: array[::-1].copy() for blob, array in batch.items()}
    found = []
    for count in (1, threads):
        split = Pieces(Runner(net, weights, [*outputs, *values], (), simulation, count))
        begun = [split.begin(each) for each in (batch, other)]
        found.append([done()[0] for done in begun])
        parts = split._split(batch)
        assert parts is not None
        assert (parts.pool is not None) == (count > 1)
    for alone, together in zip(*found, strict=True):
        for value, expected in alone.items():
            np.testing.assert_array_equal(together[value], expected, err_msg=value)


def test_random_numbers_are_drawn_in_the_order_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    net, weights = net_of("digits_lenet")
    batch = batch_of(net)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3 * _largest(net, weights, batch))
    for rounding, together in ((Rounding.HALF_EVEN, True), (Rounding.STOCHASTIC, False)):
        simulation = Simulation(formats_of(net), rounding)
        split = Pieces(Runner(net, weights, [net.finals[net.outputs[0]]], (), simulation, 2))._split(batch)
        assert split is not None
        assert (split.pool is not None) == together


def test_the_first_piece_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    net, weights = net_of("digits_lenet")
    batch = batch_of(net)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3 * _largest(net, weights, batch))
    split = Pieces(Runner(net, weights, [net.finals[net.outputs[0]]], threads=2))

    def failing(self: Runner, piece: Batch, *, losses: bool) -> None:
        raise DataError(f"piece {float(piece['data'].ravel()[0])}")

    batch = {**batch, "data": np.arange(batch["data"].size, dtype=np.float32).reshape(batch["data"].shape)}
    monkeypatch.setattr(Runner, "results", failing)
    with pytest.raises(DataError, match=r"^piece 0\.0$"):
        split.run(batch)


def test_what_is_begun_waits_for_its_turn() -> None:
    said: list[str] = []

    def begin(number: int) -> Callable[[], int]:
        said.append(f"begin {number}")
        if number == 2:
            raise DataError("the third")
        return lambda: said.append(f"end {number}") or number  # type: ignore[func-returns-value]

    results = overlapped(map(begin, range(4)))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="the third"):
        next(results)
    assert said == ["begin 0", "begin 1", "end 0", "begin 2", "end 1"]
    assert list(overlapped([])) == []
