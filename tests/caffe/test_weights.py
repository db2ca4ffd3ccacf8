"""Weights files against protobuf's own decoder, and what is no weights file against its message."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ristretto.caffe.hdf5 import HDF5_MAGIC
from ristretto.caffe.schema import message_class
from ristretto.caffe.weights import LayerWeights, Weights, read_weights, write_caffemodel
from ristretto.caffe.wire import prefixed
from ristretto.errors import UsageError, WeightsError

SHARED = Path(__file__).resolve().parents[3] / "shared"
MODELS = sorted((SHARED / "models").rglob("*.caffemodel"))
CURE = "; give the .caffemodel that Caffe saved; if it is one, fetch it again"

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read_bytes(folder: Path, content: bytes) -> Weights:
    """A file of its own for each content: what was read is a view of its file."""
    path = folder / "w.caffemodel"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return read_weights([path])


def decoded(net: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The (name, blobs) pairs of a message that protobuf has read, in the order of the wire reader."""
    for layer in net.layer:
        yield layer.name, [array(blob) for blob in layer.blobs]
    for old in net.layers:
        layer = old.layer if old.HasField("layer") else old
        yield layer.name, [array(blob) for blob in layer.blobs]


def array(blob: Any) -> np.ndarray:
    legacy = [blob.num, blob.channels, blob.height, blob.width]
    shape = list(blob.shape.dim) if blob.HasField("shape") else legacy
    return np.array(blob.double_data or blob.data, np.float64).astype(np.float32).reshape(shape)


def assert_same(weights: Weights, expected: list[tuple[str, list[np.ndarray]]]) -> None:
    assert [layer.name for layer in weights.layers] == [name for name, _ in expected]
    for layer, (_, blobs) in zip(weights.layers, expected, strict=True):
        assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in blobs]
        for found, wanted in zip(layer.blobs, blobs, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(not MODELS, reason=f"no models to read: {SHARED / 'models'} is not there")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_reads_what_protobuf_reads(path: Path) -> None:
    net = message_class("NetParameter").FromString(path.read_bytes())
    expected = list(decoded(net))
    assert any(blobs for _, blobs in expected)
    weights = read_weights([path])
    assert_same(weights, expected)
    if net.layer:
        assert [found.type for found in weights.layers] == [given.type for given in net.layer]


@pytest.mark.parametrize("generation", ["today", "v1", "v0"])
@pytest.mark.parametrize("form", ["float", "double"])
@pytest.mark.parametrize("shape", ["modern", "legacy"])
def test_every_generation_form_and_shape(tmp_path: Path, generation: str, form: str, shape: str) -> None:
    net = message_class("NetParameter")(name="net")
    for name in ("conv1", "pool1", "ip1"):
        layer = {"today": net.layer, "v1": net.layers, "v0": net.layers}[generation].add()
        layer = layer.layer if generation == "v0" else layer
        layer.name = name
        if name == "pool1":
            continue
        values = np.random.default_rng(len(name)).normal(size=24).tolist()
        blob = layer.blobs.add()
        (blob.data if form == "float" else blob.double_data).extend(values)
        blob.diff.extend(values)
        if shape == "modern":
            blob.shape.dim.extend([2, 3, 4])
        else:
            blob.num, blob.channels, blob.height, blob.width = 1, 2, 3, 4
    weights = read_bytes(tmp_path, net.SerializeToString())
    assert_same(weights, list(decoded(net)))
    (blob,) = weights.get("conv1") or ()
    assert blob.shape == ((2, 3, 4) if shape == "modern" else (1, 2, 3, 4))
    assert weights.get("pool1") is None
    assert weights.get("absent") is None


def delimited(number: int, payload: bytes) -> bytes:
    """A length-delimited field with a small number and less than 128 bytes."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def net_of_blob(blob: bytes, name: str = "l") -> bytes:
    layer = delimited(1, name.encode()) + delimited(7, blob)
    return b"\xa2\x06" + bytes([len(layer)]) + layer


FOUR = [1.0, -2.5, 0.0, 3.0e38]
SHAPE = delimited(7, b"\x0a\x02\x02\x02")
FORMS = {
    "packed": SHAPE + delimited(5, struct.pack("<4f", *FOUR)),
    "packed twice": SHAPE + delimited(5, struct.pack("<f", 1.0)) + delimited(5, struct.pack("<3f", *FOUR[1:])),
    "unpacked": b"".join(b"\x2d" + struct.pack("<f", value) for value in FOUR) + SHAPE,
    "unpacked doubles": SHAPE + b"".join(b"\x41" + struct.pack("<d", value) for value in FOUR),
    "unpacked shape": delimited(7, b"\x08\x02\x08\x02") + delimited(5, struct.pack("<4f", *FOUR)),
    "unknown fields": SHAPE + b"\xf8\x01\x07" + delimited(5, struct.pack("<4f", *FOUR)),
}


@pytest.mark.parametrize("blob", FORMS.values(), ids=FORMS.keys())
def test_forms_on_the_wire(tmp_path: Path, blob: bytes) -> None:
    (found,) = read_bytes(tmp_path, net_of_blob(blob)).get("l") or ()
    np.testing.assert_array_equal(found, np.array(FOUR, np.float32).reshape(2, 2))


def test_parts_of_a_blob_are_joined_whatever_their_number(tmp_path: Path) -> None:
    """Empty ones leave nothing behind, others no more than their bytes."""
    blob = delimited(5, b"") * 20_000 + delimited(5, b"\0" * 4) * 20_000
    content = long(100, delimited(1, b"l") + long(7, blob))
    tracemalloc.start()
    with pytest.raises(WeightsError, match="needs 1 values, the file holds 20000"):
        read_bytes(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000


def long(number: int, payload: bytes) -> bytes:
    """A length-delimited field of any number and length."""
    return prefixed(number, len(payload)) + payload


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x0a\x01n" + long(100, b"") * 6, "holds more than 5 layers, or 50 blobs; .* set RISTRETTO_MAX_LAYERS"),
        (long(100, long(7, FORMS["packed"]) * 30) * 2, "holds more than 5 layers, or 50 blobs"),
        (long(100, delimited(1, b"l") + b"\x3a\x00" * 300), "layer 'l': .* a layer has more than 256 blobs"),
        (long(100, delimited(1, b"l") + long(7, long(7, long(1, b"\1" * 33)))), "a blob has more than 32 axes"),
        (long(100, delimited(1, b"l") + long(7, long(7, b"\x08\1" * 33))), "a blob has more than 32 axes"),
    ],
    ids=["layers", "blobs", "blobs of a layer", "packed axes", "axes"],
)
def test_more_than_any_net_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    monkeypatch.setenv("RISTRETTO_MAX_LAYERS", "5")
    with pytest.raises(WeightsError, match=said):
        read_bytes(tmp_path, content)


def test_a_blob_without_a_shape_is_one_number(tmp_path: Path) -> None:
    (found,) = read_bytes(tmp_path, net_of_blob(delimited(5, struct.pack("<f", 7.0)))).get("l") or ()
    assert found.shape == ()
    assert found == 7.0


def layer(name: str, *values: float, kind: str = "InnerProduct") -> LayerWeights:
    return LayerWeights(name, kind, tuple(np.full((2, 1), value, np.float32) for value in values))


def test_the_last_layer_of_a_name_counts(tmp_path: Path) -> None:
    """Caffe copies layer after layer and file after file; a layer without blobs copies nothing."""
    first, second = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"
    write_caffemodel(first, "a", [layer("x", 1), layer("x", 2), layer("x"), layer("only_a", 3)])
    write_caffemodel(second, "b", [layer("only_b", 4), layer("only_a")])
    weights = read_weights(f"{first},{second}")
    assert weights.files == (first, second)
    assert [(name, float((weights.get(name) or ())[0][0, 0])) for name in ("x", "only_a", "only_b")] == [
        ("x", 2),
        ("only_a", 3),
        ("only_b", 4),
    ]
    write_caffemodel(second, "b", [layer("x", 5)])
    assert float((read_weights([first, second]).get("x") or ())[0][0, 0]) == 5
    assert float((read_weights([second, first]).get("x") or ())[0][0, 0]) == 2


def test_no_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"no weights file is given; write --weights x\.caffemodel"):
        read_weights(",")


def test_wrong_number_of_values(tmp_path: Path) -> None:
    blob = delimited(7, b"\x0a\x02\x02\x03") + delimited(5, struct.pack("<4f", *FOUR))
    with pytest.raises(WeightsError) as caught:
        read_bytes(tmp_path, net_of_blob(blob, "conv1"))
    assert caught.value.layer == "conv1"
    assert caught.value.file == str(tmp_path / "w.caffemodel")
    what = "a blob of shape [2, 3] needs 6 values, the file holds 4"
    assert caught.value.what == f"damaged or no weights file: {what} (at byte 12)"


def test_impossible_shapes(tmp_path: Path) -> None:
    huge = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    for dims in (b"\x00" + huge, huge + b"\x02", b"\xff" + huge[:-1] + b"\x01\x01"):
        with pytest.raises(WeightsError, match=r"layer 'l': damaged or no weights file: .*shape.* \(at byte 8\)"):
            read_bytes(tmp_path, net_of_blob(delimited(7, delimited(1, dims))))


MISTAKEN = {
    b"": "the weights file is empty",
    b"<!DOCTYPE html>\n<html></html>": "this is a web page, not a weights file" + CURE,
    b"\xef\xbb\xbf\n<html lang='en'>": "this is a web page, not a weights file" + CURE,
    b'name: "LeNet"\nlayer { name: "x" }\n': "this is a prototxt, not a weights file" + CURE,
    b'# a net\nname: "LeNet"\n': "this is a prototxt, not a weights file" + CURE,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": (
        "this is a git-lfs pointer, not the file it points to" + CURE
    ),
    b"PK\x03\x04\x14\x00": "this is a zip archive, not a weights file" + CURE,
    b'{"error": "not found"}': "this is a text file, not a weights file" + CURE,
    b"\x08\x01\x10\x03": "the file holds no layers; give the .caffemodel that Caffe saved",
    b"\xa2\x06\x05\x0a": "damaged or no weights file: a field claims 5 bytes where 1 are left (at byte 0)" + CURE,
    b"\xa2\x06\xff": "damaged or no weights file: a number does not end (at byte 2)" + CURE,
}


WITHOUT_A_PLACE = {message.split(";")[0] for message in MISTAKEN.values() if "(at byte" not in message}


@pytest.mark.parametrize("content", MISTAKEN, ids=lambda content: repr(content[:12]))
def test_what_is_no_weights_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WeightsError) as caught:
        read_bytes(tmp_path, content)
    assert str(caught.value) == f"{tmp_path / 'w.caffemodel'}: {MISTAKEN[content]}"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no\.caffemodel: cannot read the weights: No such file"):
        read_weights([tmp_path / "no.caffemodel"])
    with pytest.raises(WeightsError, match="cannot read the weights: Is a directory"):
        read_weights([tmp_path])


SMALL = message_class("NetParameter")(name="net")
for _name in ("conv", "ip"):
    _layer = SMALL.layer.add(name=_name, type="Convolution", bottom=["x"], top=["y"])
    _layer.blobs.add(data=[0.5] * 6).shape.dim.extend([2, 3])
    _layer.blobs.add(double_data=[0.25] * 2, num=1, channels=1, height=1, width=2)
SMALL_BYTES = SMALL.SerializeToString()


def read_or_complain(folder: Path, content: bytes) -> None:
    """Any bytes are read or refused with their place; nothing else may be raised, and no blob outgrows its file."""
    complaint: WeightsError | None = None
    weights: Weights | None = None
    try:
        weights = read_bytes(folder, content)
    except WeightsError as error:
        complaint = error
    if weights is not None:
        assert all(blob.nbytes <= len(content) for found in weights.layers for blob in found.blobs)
    assert complaint is None or complaint.file == str(folder / "w.caffemodel")
    assert complaint is None or "(at byte " in complaint.what or complaint.what in WITHOUT_A_PLACE


def test_truncated_anywhere(tmp_path: Path) -> None:
    for length in range(len(SMALL_BYTES)):
        read_or_complain(tmp_path, SMALL_BYTES[:length])


@same_folder
@given(st.lists(st.tuples(st.integers(0, len(SMALL_BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL_BYTES)
    for position, byte in changes:
        content[position] = byte
    read_or_complain(tmp_path, bytes(content))


@same_folder
@given(st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    assume(not content.startswith(HDF5_MAGIC))  # another reader's business, which has tests of its own
    read_or_complain(tmp_path, content)
    read_or_complain(tmp_path, b"\xa2\x06" + content)


def test_a_false_claim_of_size_allocates_nothing(tmp_path: Path) -> None:
    claims = b"\x0a\x0a" + b"\xff" * 4 + b"\x07" + b"\xff" * 4 + b"\x07"  # 2**31 - 1 by 2**31 - 1
    content = net_of_blob(delimited(7, claims) + delimited(5, bytes(4)))
    tracemalloc.start()
    with pytest.raises(WeightsError, match="needs 4611686014132420609 values, the file holds 1"):
        read_bytes(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@same_folder
@given(st.lists(st.tuples(names, st.lists(shapes, max_size=3)), max_size=4), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_by_us_and_by_protobuf(
    tmp_path: Path, content: list[tuple[str, list[tuple[int, ...]]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layers = [
        LayerWeights(name, "Convolution", tuple(rng.normal(size=shape).astype(np.float32) for shape in sizes), ("b",))
        for name, sizes in content
    ]
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, "net", layers)
    expected = [(layer.name, list(layer.blobs)) for layer in layers]
    assert_same(read_weights([path]), expected)
    net = message_class("NetParameter").FromString(path.read_bytes())
    assert net.name == "net"
    assert [(layer.type, list(layer.bottom)) for layer in net.layer] == [("Convolution", ["b"])] * len(layers)
    for (_, found), (_, wanted) in zip(decoded(net), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_name_in_another_encoding_survives(tmp_path: Path) -> None:
    """Names are matched with those of the prototxt, whose tree keeps such bytes as surrogates."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, "net", [layer(name, 1)])
    assert b"caf\xe9" in path.read_bytes()
    assert read_weights([path]).get(name) is not None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"old")

    def layers() -> Iterator[LayerWeights]:
        yield layer("x", 1)
        raise RuntimeError("training stopped")

    with pytest.raises(RuntimeError, match="training stopped"):
        write_caffemodel(path, "net", layers())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system gives open files no paths")
def test_reads_from_a_pipe_that_a_shell_made() -> None:
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(SMALL_BYTES)

    thread = threading.Thread(target=write)
    thread.start()
    weights = read_weights([Path(f"/dev/fd/{reader}")])
    thread.join()
    os.close(reader)
    assert_same(weights, list(decoded(SMALL)))


MEASURE = """
import sys
from pathlib import Path
from ristretto.caffe.weights import read_weights

def peak_kib():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))

before = peak_kib()
weights = read_weights([Path(sys.argv[1])])
total = sum(float(blob.sum(dtype="float64")) for layer in weights.layers for blob in layer.blobs)
print(total, (peak_kib() - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is measured through /proc")
def test_a_large_file_takes_about_its_own_size_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.caffemodel"
    ones = np.ones((1000, 1000, 5), np.float32)
    write_caffemodel(path, "large", [LayerWeights(f"fc{i}", "InnerProduct", (ones,)) for i in range(10)])
    size = path.stat().st_size
    assert size > 200_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    total, growth = map(float, done.stdout.split())
    assert total == 50_000_000
    assert 0.5 * size < growth < 1.5 * size
