"""Real nets compute what they did after they have been equalised, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.equalize import EqualizedPair, equalize
from ristretto.caffe.fold import fold
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import Weights, read_weights
from ristretto.errors import RistrettoError
from ristretto.pipeline.feed import Batch, open_feed
from ristretto.pipeline.runner import Runner
from tests.golden.shared import SHARED, cases, needs_shared

OURS = Path(__file__).parents[2] / "models"
LINEAR = {"Convolution", "Deconvolution", "InnerProduct"}


def folded(model: Path, weights: Path) -> tuple[NetSpec, Weights]:
    """A net without the layers that can be folded; one without such layers is as it was."""
    done = fold(read_prototxt(model), read_weights([weights]))
    return build_net(done.document), done.weights


def first_batch(net: NetSpec, images: int, inputs: Path | None = None, data_root: Path | None = None) -> Batch:
    feed = open_feed(net, inputs=inputs, data_root=data_root, seed=0)
    return {blob: array[:images] for blob, array in next(iter(feed.batches())).items()}


def assert_bit_equal(net: NetSpec, weights: Weights, batch: Batch) -> tuple[EqualizedPair, ...]:
    """Equalise and compare all that is not scaled: what leaves the net, and what each declined layer makes."""
    done = equalize(net, weights)
    linear = [layer.name for layer in net.layers if layer.type in LINEAR]
    assert sorted([*(pair.first for pair in done.pairs), *(name for name, _ in done.declined)]) == sorted(linear)
    wanted = [net.finals[blob] for blob in net.outputs]
    wanted += [layer.outputs[0] for layer in net.layers if layer.name in dict(done.declined)]
    before, after = (Runner(net, held, wanted, threads=1).run(batch)[0] for held in (weights, done.weights))
    for value in wanted:
        assert np.isfinite(before[value]).all()
        np.testing.assert_array_equal(after[value], before[value], err_msg=value)
    for held, new in zip(weights.layers, done.weights.layers, strict=True):
        for was, now in zip(held.blobs, new.blobs, strict=True):
            np.testing.assert_array_equal(np.frexp(now)[0], np.frexp(was)[0])
    return done.pairs


@pytest.mark.parametrize(("name", "links", "channels"), [("digits_lenet", 3, 1), ("digits_resnet", 3, 39)])
def test_our_nets(name: str, links: int, channels: int) -> None:
    net, weights = folded(OURS / name / "train_val.prototxt", OURS / name / f"{name}.caffemodel")
    pairs = assert_bit_equal(net, weights, first_batch(net, 32, data_root=OURS))
    assert (len(pairs), sum(pair.channels for pair in pairs)) == (links, channels)


@needs_shared
@pytest.mark.parametrize(
    ("model", "weights", "links", "channels"),
    [
        ("squeezenet_v1.0/train_val", "squeezenet_v1.0/squeezenet_v1.0", 9, 71),
        ("cifar10_quick/train_test", "cifar10_quick/cifar10_quick_iter_5000", 4, 81),
        ("cifar10_resnet20/train_test", "cifar10_resnet20/resnet20", 9, 289),
        ("cifar10_mobilenetv2_small/train_val", "cifar10_mobilenetv2_small/mobilenetv2_small", 0, 0),
        ("lenet_mnist/train_test", "lenet_mnist/lenet_iter_10000", 3, 72),
    ],
)
def test_shared_nets_on_their_data(
    model: str, weights: str, links: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SHARED)
    net, held = folded(SHARED / f"models/{model}.prototxt", SHARED / f"models/{weights}.caffemodel")
    pairs = assert_bit_equal(net, held, first_batch(net, 4 if "squeezenet" in model else 100))
    assert (len(pairs), sum(pair.channels for pair in pairs)) == (links, channels)


@needs_shared
@pytest.mark.parametrize(
    ("folder", "name", "weights", "links"),
    [
        ("mobilefacenet", "deploy", "mobilefacenet", 32),
        ("face_rfb320", "RFB-320", "RFB-320", 39),
        ("ssd_mininet_lpr", "mininet_ssd_v1", "mininet_ssd_v1", 29),
        ("fsrcnn", "deploy", "snapshot_iter_2546000", 7),
        ("mtcnn", "det2", "det2", 4),
        ("mtcnn", "det3", "det3", 5),
        ("mtcnn", "det4", "det4", 5),
        ("deep_landmark", "1_F_deploy", "1_F", 3),
        ("lenet_mnist_legacy", "lenet.v0", "lenet.v0", 3),
        ("lenet_mnist_legacy", "lenet.v1", "lenet.v1", 3),
    ],
)
def test_shared_nets_on_golden_inputs(folder: str, name: str, weights: str, links: int) -> None:
    models = SHARED / "models" / folder
    net, held = folded(models / f"{name}.prototxt", models / f"{weights}.caffemodel")
    pairs = assert_bit_equal(net, held, first_batch(net, 4, models / f"golden_{name}_inputs.npz"))
    assert len(pairs) == links
    assert sum(pair.channels for pair in pairs) > 0


@needs_shared
def test_depthwise_chains_are_closed_link_by_link() -> None:
    """convolution - depthwise - convolution: each of the first two is the first layer of a pair."""
    models = SHARED / "models/mobilefacenet"
    net, held = folded(models / "deploy.prototxt", models / "mobilefacenet.caffemodel")
    done = equalize(net, held)
    pairs = {pair.first: pair.readers for pair in done.pairs}
    assert pairs["conv_1_conv2d"] == ("conv_2_dw_conv2d",)
    assert pairs["conv_2_dw_conv2d"] == ("dconv_23_conv_sep_conv2d",)
    again = equalize(net, done.weights)
    assert again.weights is done.weights


@needs_shared
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
@pytest.mark.parametrize("path", cases("prototxt_corpus/*"), ids=lambda path: path.name)
def test_no_real_prototxt_is_a_fault(path: Path, phase: Phase) -> None:
    """Without weights nothing is scaled, and each linear layer has a reason of one line."""
    try:
        net = build_net(parse(path.read_bytes(), path.name), NetState(phase))
    except RistrettoError:
        pytest.skip("no net in this phase")
    empty = Weights((), ())
    done = equalize(net, empty)
    assert done.weights is empty
    assert done.pairs == ()
    assert {name for name, _ in done.declined} >= {layer.name for layer in net.layers if layer.type in LINEAR}
    assert all(reason and "\n" not in reason for _, reason in done.declined)
