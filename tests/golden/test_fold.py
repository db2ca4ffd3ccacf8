"""Folded nets against Caffe's own outputs, and real nets before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.fold import Folded, fold
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.netspec import NetSpec
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import Weights, read_weights
from ristretto.errors import RistrettoError
from ristretto.pipeline.evaluate import NetOptions, evaluate, run
from ristretto.pipeline.fold import fold as fold_files
from tests.golden.shared import SHARED, cases, needs_shared

pytestmark = needs_shared

MODELS = SHARED / "models"
AFFINE = {"BatchNorm", "Scale", "Bias"}


@pytest.fixture(autouse=True)
def _in_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED)


def folded(model: Path, weights: Path, folder: Path) -> tuple[Folded, NetOptions]:
    """The folded net, and how to run it."""
    paths = folder / "f.prototxt", folder / "f.caffemodel"
    done = fold_files(model, (weights,), *paths)
    return done, NetOptions(paths[0], (paths[1],), threads=1)


def kinds(net: NetSpec) -> set[str]:
    return {layer.type for layer in net.layers}


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    assert actual.shape == wanted.shape
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))


def test_chain_in_place_is_caffes(tmp_path: Path) -> None:
    case = SHARED / "golden/layers/chain_inplace_bn_scale_relu"
    done, options = folded(case / "net.prototxt", case / "net.caffemodel", tmp_path)
    assert [(chain.into, chain.layers) for chain in done.folded] == [("c", ("bn", "sc"))]
    assert done.declined == ()
    wanted = np.load(case / "outputs.npz")
    made = run(NetOptions(options.model, options.weights, inputs=case / "inputs.npz"), tuple(wanted.files))
    for blob in wanted.files:
        assert_close(made[blob], wanted[blob])


@pytest.mark.parametrize("model", ["mobilefacenet", "cifar10_resnet20"])
def test_golden_inputs_give_caffes_outputs(model: str, tmp_path: Path) -> None:
    folder = MODELS / model
    done, options = folded(folder / "deploy.prototxt", next(folder.glob("*.caffemodel")), tmp_path)
    assert len(done.folded) > 15
    wanted = np.load(folder / "golden_deploy_outputs.npz")
    inputs = folder / "golden_deploy_inputs.npz"
    made = run(NetOptions(options.model, options.weights, inputs=inputs), tuple(wanted.files))
    for blob in wanted.files:
        assert_close(made[blob], wanted[blob], 1e-5)


def test_mobilefacenet_keeps_what_stands_before_a_convolution(tmp_path: Path) -> None:
    folder = MODELS / "mobilefacenet"
    done, _ = folded(folder / "deploy.prototxt", folder / "mobilefacenet.caffemodel", tmp_path)
    assert dict(done.declined).keys() == {"bn6f", "bn6f_scale", "bn6w", "bn6w_scale"}
    assert "'pre_fc1' comes after it and cannot take it in" in dict(done.declined)["bn6w"]


@pytest.mark.parametrize(
    ("model", "weights", "chains"),
    [
        ("cifar10_resnet20/train_test", "cifar10_resnet20/resnet20", 21),
        ("cifar10_resnet20/train_test_own_blobs", "cifar10_resnet20/resnet20", 21),
        ("cifar10_mobilenetv2_small/train_val", "cifar10_mobilenetv2_small/mobilenetv2_small", 23),
        ("cifar10_mobilenetv2_small/train_val_own_blobs", "cifar10_mobilenetv2_small/mobilenetv2_small", 23),
    ],
)
def test_real_nets_score_the_same(model: str, weights: str, chains: int, tmp_path: Path) -> None:
    """300 images: equal choices, equal losses, and equal values where the last layer starts."""
    prototxt, caffemodel = MODELS / f"{model}.prototxt", MODELS / f"{weights}.caffemodel"
    done, after = folded(prototxt, caffemodel, tmp_path)
    assert (len(done.folded), done.declined) == (chains, ())
    before = NetOptions(prototxt, (caffemodel,), threads=1)
    assert not kinds(build_net(done.document)) & AFFINE
    scores = [evaluate(options, 3).scored for options in (before, after)]
    assert scores[0].images == scores[1].images == 300
    assert scores[0].score == scores[1].score
    last = next(layer for layer in reversed(build_net(done.document).layers) if layer.type == "InnerProduct").tops
    assert_close(run(after, last)[last[0]], run(before, last)[last[0]], 1e-5)


@pytest.mark.parametrize("model", ["cifar10_resnet20/train_test", "cifar10_mobilenetv2_small/train_val"])
def test_the_train_phase_stays_a_net(model: str) -> None:
    document = read_prototxt(MODELS / f"{model}.prototxt")
    weights = read_weights([next((MODELS / model).parent.glob("*.caffemodel"))])
    after = fold(document, weights).document
    for state in (NetState("TRAIN"), NetState("TEST")):
        wanted = [layer.name for layer in build_net(document, state).layers if layer.type not in AFFINE]
        assert [layer.name for layer in build_net(after, state).layers] == wanted


@pytest.mark.parametrize("path", cases("prototxt_corpus/*"), ids=lambda path: path.name)
def test_no_real_prototxt_is_a_fault(path: Path) -> None:
    """Without weights nothing is folded, and each BatchNorm, Scale and Bias has a reason."""
    try:
        document = parse(path.read_bytes(), path.name)
        net = build_net(document)
    except RistrettoError:
        pytest.skip("no net in phase TEST")
    done = fold(document, Weights((), ()))
    assert done.document is document
    assert [name for name, _ in done.declined] == [layer.name for layer in net.layers if layer.type in AFFINE]
    assert all(reason and "\n" not in reason for _, reason in done.declined)
