"""Datums against protobuf's own reader, and images against OpenCV's encoders."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ristretto.caffe.schema import message_class
from ristretto.data.datum import BadImageError, decode_image, parse_datum
from ristretto.data.opencv import quiet
from tests.data.sources import encoded_datum, failing, jpeg, picture, png, raw_datum

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
LABELS = st.integers(-(2**31), 2**31 - 1)


@given(arrays.arrays(np.uint8, SHAPES), LABELS)
def test_bytes_come_back_as_they_were_written(pixels: np.ndarray, label: int) -> None:
    image, read = parse_datum(raw_datum(pixels, label), None)
    np.testing.assert_array_equal(image, pixels)
    assert (image.dtype, read) == (np.uint8, label)


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e9, 1e9, width=32)))
def test_float_data_comes_back_as_it_was_written(values: np.ndarray) -> None:
    channels, height, width = values.shape
    datum = message_class("Datum")(channels=channels, height=height, width=width, float_data=values.ravel().tolist())
    image, label = parse_datum(datum.SerializeToString(), None)
    np.testing.assert_array_equal(image, values)
    assert (image.dtype, label) == (np.float32, 0)


def test_packed_float_data_is_read_too() -> None:
    values = np.arange(4, dtype=np.float32)
    record = b"\x08\x01\x10\x02\x18\x02" + b"\x32\x10" + values.tobytes()
    np.testing.assert_array_equal(parse_datum(record, None)[0], values.reshape(1, 2, 2))


def test_bytes_win_over_float_data() -> None:
    datum = message_class("Datum")(channels=1, height=1, width=1, data=b"\x07", float_data=[9.0])
    assert parse_datum(datum.SerializeToString(), None)[0] == 7


PIECES = [b"\x08\x01", b"\x08\x81\x80\x00", b"\x10\x02", b"\x18\x03", b"\x22\x06abcdef", b"\x22\x00", b"\x28\x07"]
PIECES += [
    b"\x28" + b"\xff" * 9 + b"\x01",
    b"\x38\x00",
    b"\x38\x01",
    b"\x32\x04\x00\x00\x80\x3f",
    b"\x28",
    b"\x22\x50",
    b"\x70\x05",
]
USUAL = b"\x08\x01\x10\x02\x18\x03\x22\x06abcdef"


def outcome(record: bytes) -> tuple[object, ...]:
    try:
        image, label = parse_datum(record, None)
    except BadImageError as error:
        return (str(error),)
    return image.dtype, image.shape, image.tobytes(), label


@given(st.booleans(), st.lists(st.sampled_from(PIECES), max_size=9), st.integers(0, 3))
def test_the_short_way_for_usual_records_reads_what_the_long_one_does(
    usual: bool, pieces: list[bytes], less: int
) -> None:
    record = USUAL * usual + b"".join(pieces)
    record = record[: len(record) - less]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ristretto.data.datum._USUAL", re.compile(rb"(?!)"))
        expected = outcome(record)
    assert outcome(record) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_a_datum_or_a_bad_image(record: bytes) -> None:
    try:
        image, _ = parse_datum(record, None)
    except BadImageError:
        return
    assert image.ndim == 3
    assert image.size


@given(st.data())
def test_a_damaged_datum_is_a_datum_or_a_bad_image(data: st.DataObject) -> None:
    record = bytearray(data.draw(st.sampled_from([raw_datum(picture(1)), encoded_datum(png(picture(2)))])))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parse_datum(bytes(record[: data.draw(st.integers(0, len(record)))]), None)
    except BadImageError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"channels": 1, "height": 2, "width": 2, "data": b"abc"}, "states shape [1, 2, 2] and holds 3 values"),
        ({"channels": 1, "height": 1, "width": 1, "data": b"ab"}, "states shape [1, 1, 1] and holds 2 values"),
        ({"channels": 1, "height": 2, "width": 2}, "states shape [1, 2, 2] and holds 0 values"),
        ({"data": b"abc"}, "states shape [0, 0, 0] and holds 3 values"),
        ({"channels": 1, "height": -1, "width": -1, "data": b"a"}, "states shape [1, -1, -1] and holds 1 values"),
        ({"encoded": True}, "holds an image that cannot be decoded"),
        ({"encoded": True, "data": b"no image"}, "holds an image that cannot be decoded"),
    ],
    ids=["too few", "too many", "no pixels", "no shape", "negative", "encoded nothing", "encoded junk"],
)
def test_what_is_said_of_a_bad_datum(fields: dict[str, object], what: str) -> None:
    with pytest.raises(BadImageError) as raised:
        parse_datum(message_class("Datum")(**fields).SerializeToString(), None)
    assert str(raised.value) == what


def test_what_is_said_of_a_record_that_is_no_datum() -> None:
    with pytest.raises(BadImageError) as raised:
        parse_datum(raw_datum(picture(0))[:-10], None)
    assert str(raised.value).startswith("is no Datum (a field claims 360 bytes where")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_truncated_image_is_refused_and_not_filled_up(encode, share: float) -> None:
    whole = encode(picture(3, 40, 40))
    with pytest.raises(BadImageError, match=r"^holds an image that cannot be decoded$"):
        decode_image(whole[: int(len(whole) * share)], None)


def test_a_png_keeps_its_pixels_blue_first() -> None:
    image = picture(4)
    np.testing.assert_array_equal(decode_image(png(image), None), image.transpose(2, 0, 1))


def test_channels_are_as_the_file_has_them_or_as_forced() -> None:
    gray, alpha = picture(5)[:, :, 0], np.dstack([picture(5), picture(6)[:, :, :1]])
    channels = {
        name: [decode_image(png(image), color).shape[0] for color in (None, 1, 3)]
        for name, image in (("gray", gray), ("alpha", alpha))
    }
    assert channels == {"gray": [1, 1, 3], "alpha": [4, 1, 3]}


def test_forced_gray_weighs_the_channels_as_libpng_does() -> None:
    """It rounds down, unlike OpenCV's conversion; the original's batches (golden/data/lmdb_png_force_gray) do too."""
    image = picture(7)
    blue, green, red = image.astype(np.float64).transpose(2, 0, 1)
    expected = 0.114 * blue + 0.587 * green + 0.299 * red
    off = expected - decode_image(png(image), 1)[0]
    assert -0.05 < off.min() < off.max() < 1.05


def test_a_jpeg_forced_to_gray_is_the_gray_of_its_colors() -> None:
    smooth = cv2.GaussianBlur(picture(8, 32, 32), (0, 0), 4)
    gray, color = decode_image(jpeg(smooth), 1), decode_image(jpeg(smooth), 3)
    assert gray.shape == (1, 32, 32)
    expected = cv2.cvtColor(np.ascontiguousarray(color.transpose(1, 2, 0)), cv2.COLOR_BGR2GRAY)
    np.testing.assert_allclose(gray[0].astype(float), expected, rtol=0, atol=2)  # libjpeg gives its own luma


def test_sixteen_bits_per_channel_are_refused() -> None:
    with pytest.raises(BadImageError, match=r"^has uint16 pixels, 8 bits are needed$"):
        decode_image(png(picture(9).astype(np.uint16) * 200), None)


def test_memory_that_does_not_suffice_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = png(picture(1))
    monkeypatch.setattr(cv2, "imdecode", failing(-4))
    with pytest.raises(BadImageError, match=r"^needs more memory than there is$"):
        decode_image(whole, None)
    monkeypatch.setattr(cv2, "imdecode", failing(-215))
    with pytest.raises(BadImageError, match=r"^holds an image that cannot be decoded$"):
        decode_image(whole, None)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, more: bytes, pixels: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 2, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [b"IDAT", b"IEND", b"tEXt"])
@pytest.mark.parametrize("first", [False, True])
def test_a_chunk_of_a_png_that_claims_more_than_there_is_never_reaches_opencv(
    monkeypatch: pytest.MonkeyPatch, kind: bytes, first: bool
) -> None:
    """OpenCV takes the memory that a chunk claims before it looks for it."""
    whole = png(picture(10))
    assert decode_image(whole, 3).shape == picture(10).transpose(2, 0, 1).shape
    before = whole[:8] if first else whole[: whole.index(b"IEND") - 4]
    monkeypatch.setattr(cv2, "imdecode", failing(-4))
    with pytest.raises(BadImageError, match=r"^holds an image that cannot be decoded$"):
        decode_image(before + struct.pack(">I", 1 << 31) + kind + bytes(20), 3)


def test_the_limit_of_pixels_holds_where_cv2_was_there_before() -> None:
    """OpenCV looks for the limit when it is loaded."""
    code = """
import cv2
from ristretto.data.datum import BadImageError, decode_image
from pathlib import Path
import sys
try:
    print(decode_image(Path(sys.argv[1]).read_bytes(), 1).shape)
except BadImageError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    path = Path(__file__).parents[1] / "fuzz/findings/image/webp_of_86_megapixels"
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "holds an image of more pixels than OPENCV_IO_MAX_IMAGE_PIXELS allows"


LOUD = {
    "pixels": raw_png(2, b"", b"x" * 20),
    "width": raw_png(2**31 - 1, b"", zlib.compress(bytes(14))),
    "profile": raw_png(2, chunk(b"iCCP", b"a\0\0xx") + chunk(b"tRNS", b"zz"), zlib.compress(bytes(14))),
    "jpeg": jpeg(picture(3, 40, 40))[:300] + b"\xff\xd9" + jpeg(picture(3, 40, 40))[400:],
}
"""Images of which libpng or libjpeg has something to say."""
BITMAP = b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 8000, 8000, 1, 24, 0, 0, 0, 0, 0, 0)
"""One of which OpenCV itself has."""
needs_glibc = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="needs glibc"
)


@needs_glibc
@pytest.mark.parametrize("name", LOUD)
def test_the_libraries_write_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert decode_image(LOUD[name], None).size
    except BadImageError:
        assert name != "profile"
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().err == ""


def test_opencv_writes_nothing_but_where_it_is_asked_for() -> None:
    code = f"""
from ristretto.data.datum import BadImageError, decode_image
try:
    decode_image({BITMAP!r}, 3)
except BadImageError:
    print("refused")
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    for more, heard in (({}, False), ({"OPENCV_LOG_LEVEL": "ERROR"}, True)):
        done = subprocess.run([sys.executable, "-c", code], env=environment | more, capture_output=True, check=True)
        assert (done.stdout.strip(), b"imdecode" in done.stderr) == (b"refused", heard)
        assert heard or not done.stderr


@needs_glibc
def test_only_c_is_silent_and_only_inside(capfd: pytest.CaptureFixture[str]) -> None:
    library = ctypes.CDLL(None)
    stderr = ctypes.c_void_p.in_dll(library, "stderr")
    loud = stderr.value
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert inside.wait(10)
        os.write(2, b"heard ")
        library.perror(b"lost")
    assert stderr.value != loud
    go_on.set()
    thread.join()
    assert stderr.value == loud
    library.perror(b"heard too")
    assert re.fullmatch("heard heard too: [^\n]*\n", capfd.readouterr().err)


def test_a_png_may_not_claim_more_than_it_holds() -> None:
    whole = png(picture(3))
    assert decode_image(whole + b"more", 3).shape == (3, 10, 12), "what comes behind the end does not matter"
    place = whole.index(b"IDAT")
    for cut in (whole[:-6], whole[: place + 30], whole[: place - 4] + b"\xbf\0\0\x28" + whole[place:]):
        before = peak_kilobytes()
        with pytest.raises(BadImageError, match=r"^holds an image that cannot be decoded$"):
            decode_image(cut, None)
        assert peak_kilobytes() - before < 100_000


def peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
