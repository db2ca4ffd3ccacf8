"""The nets in models/ are complete, and as accurate as the comments in their prototxts say."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ristretto.caffe.schema import message_class
from tests.databases import reading

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DATA = MODELS / "digits_data"
NETS = ("digits_lenet", "digits_resnet")
IMAGES = {"train_lmdb": 1197, "test_lmdb": 600}
ENDS = {"Data", "Input", "Accuracy", "SoftmaxWithLoss", "Softmax"}


def _tool() -> ModuleType:
    """The training program, which holds the numpy reference; torch is loaded only where it trains."""
    spec = importlib.util.spec_from_file_location("train_digits", ROOT / "tools" / "train_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_digits = _tool()


@cache
def datums(name: str) -> dict[str, Any]:
    """The Datums of a database by their keys."""
    with reading(DATA / name) as transaction:
        return {bytes(k).decode(): message_class("Datum").FromString(v) for k, v in transaction.cursor()}


def pixels(datum: Any) -> Any:
    return np.frombuffer(datum.data, np.uint8).reshape(datum.height, datum.width)


@cache
def prototxt(net: str, file: str) -> Any:
    return train_digits.read_prototxt(MODELS / net / file)


@cache
def blobs(net: str) -> Any:
    return train_digits.read_blobs(MODELS / net / f"{net}.caffemodel")


def test_the_folder_holds_the_nets_and_nothing_else() -> None:
    found = {str(path.relative_to(MODELS)) for path in MODELS.rglob("*") if path.is_file()}
    expected = {"README.md", *(f"digits_data/{name}/data.mdb" for name in IMAGES)}
    for net in NETS:
        expected |= {f"{net}/{file}" for file in ("train_val.prototxt", "deploy.prototxt", f"{net}.caffemodel")}
    assert found == expected


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("name", IMAGES)
def test_data_is_complete(name: str) -> None:
    found = datums(name)
    assert [int(key.split("_")[0]) for key in found] == list(range(IMAGES[name]))
    for key, datum in found.items():
        assert re.fullmatch(r"\d{8}_digit\d{4}", key)
        assert (datum.channels, datum.height, datum.width, len(datum.data)) == (1, 16, 16, 256)
        assert datum.data != bytes(256)
        assert not datum.encoded
    counts = np.bincount([datum.label for datum in found.values()])
    assert len(counts) == 10
    # The same share of each digit in both databases: there are 174 to 183 of each.
    assert counts.min() >= 0.095 * len(found)
    assert counts.max() <= 0.105 * len(found)


def test_no_test_image_is_in_the_training_set() -> None:
    assert not {d.data for d in datums("train_lmdb").values()} & {d.data for d in datums("test_lmdb").values()}


def test_data_is_scikit_learns_digits() -> None:
    """Each of them once, enlarged as OpenCV enlarges them."""
    cv2 = pytest.importorskip("cv2")
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    found = {int(key[-4:]): datum for name in IMAGES for key, datum in datums(name).items()}
    assert sorted(found) == list(range(len(digits.images)))
    for index, datum in found.items():
        large = cv2.resize(digits.images[index] * 16, (16, 16), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(pixels(datum), np.minimum(large, 255))
        assert datum.label == digits.target[index]


@pytest.mark.parametrize("net", NETS)
def test_train_val_and_deploy_are_the_same_net(net: str) -> None:
    inner = [
        [layer for layer in prototxt(net, file).layer if layer.type not in ENDS]
        for file in ("train_val.prototxt", "deploy.prototxt")
    ]
    assert inner[0] == inner[1]
    assert len(inner[0]) >= 10


@pytest.mark.parametrize("net", NETS)
def test_one_pass_over_the_test_set_is_whole(net: str) -> None:
    layers = prototxt(net, "train_val.prototxt").layer
    sources = {(MODELS / layer.data_param.source): layer.data_param for layer in layers if layer.type == "Data"}
    assert sorted(sources) == [DATA / "test_lmdb", DATA / "train_lmdb"]
    assert IMAGES["test_lmdb"] % sources[DATA / "test_lmdb"].batch_size == 0


@pytest.mark.parametrize("net", NETS)
def test_weights_fit_and_are_finite(net: str) -> None:
    with_weights = {"Convolution", "InnerProduct", "BatchNorm", "Scale"}
    layers = {layer.name: layer for layer in prototxt(net, "deploy.prototxt").layer}
    assert set(blobs(net)) == {name for name, layer in layers.items() if layer.type in with_weights}
    for name, arrays in blobs(net).items():
        for array in arrays:
            assert np.isfinite(array).all()
            assert np.ptp(array) > 0 or array.size == 1
        if layers[name].type == "BatchNorm":
            # Not 1, so that a reader who forgets to divide by it is found out.
            assert arrays[2] == pytest.approx(999.982, abs=0.001)


@pytest.mark.parametrize("net", NETS)
def test_accuracy_is_what_the_prototxts_say(net: str) -> None:
    images, labels = train_digits.read_lmdb(DATA / "test_lmdb")
    scores = train_digits.reference_scores(prototxt(net, "train_val.prototxt"), blobs(net), images)
    accuracy = f"{(scores.argmax(axis=1) == labels).mean():.4f}"
    assert float(accuracy) > 0.97
    for file in ("train_val.prototxt", "deploy.prototxt"):
        text = (MODELS / net / file).read_text(encoding="utf-8")
        assert f"# Float accuracy on the 600 test images: {accuracy}\n" in text
    assert re.search(rf"`{net}`.*\b{accuracy}\b", (MODELS / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("net", NETS)
def test_opencv_gives_the_same_probabilities(net: str) -> None:
    """OpenCV's own Caffe reader and arithmetic; float32, so a few units of the sixth digit apart."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV reads no Caffe nets")
    images, _ = train_digits.read_lmdb(DATA / "test_lmdb")
    data = (images[:100] * train_digits.SCALE).astype(np.float32)
    peer = cv2.dnn.readNetFromCaffe(str(MODELS / net / "deploy.prototxt"), str(MODELS / net / f"{net}.caffemodel"))
    peer.setInput(data)
    ours = train_digits.forward(prototxt(net, "deploy.prototxt"), blobs(net), data.astype(np.float64))["prob"]
    np.testing.assert_allclose(peer.forward(), ours, atol=1e-5)
