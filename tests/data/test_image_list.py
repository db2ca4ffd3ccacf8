"""ImageData layers: the list's lines, resizing, shuffling, and what is said of images that cannot be had."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.data.opencv import max_pixels
from ristretto.errors import DataError, NetError
from tests.data.sources import data_layer, failing, first, labels, opened, picture, place, png

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "data"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of four pictures of different sizes: 0.png to 3.png."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(picture(number, 8 + number, 12)))
    return folder


def listed(images: Path, text: str, more: str = "batch_size: 1", *, transform: str = "", phase="TEST"):
    """An ImageData layer over a list with this text."""
    path = images.parent / "list.txt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    parameters = f'image_data_param {{ source: "{path}" root_folder: "{images}/" {more} }}'
    return data_layer("ImageData", parameters, transform, phase=phase)


FOUR = "".join(f"{number}.png {number}\n" for number in range(4))
SAME_SIZE = "batch_size: 3 new_height: 6 new_width: 5"


def test_images_come_blue_first_with_their_labels(images: Path) -> None:
    source = opened(listed(images, "1.png 7\n2.png -3\n"))
    assert (source.images, source.batch_size, source.shapes["data"]) == (2, 1, (1, 3, 9, 12))
    batches = first(source, 3)
    assert labels(batches) == [7, -3, 7]
    np.testing.assert_array_equal(batches[1]["data"][0], picture(2, 10, 12).transpose(2, 0, 1))
    assert batches[0]["data"].dtype == np.float32


def test_sizes_are_free_where_a_batch_is_one_image(images: Path) -> None:
    assert [batch["data"].shape[2:] for batch in first(opened(listed(images, FOUR)), 5)] == [
        (8, 12), (9, 12), (10, 12), (11, 12), (8, 12)
    ]  # fmt: skip


def test_several_sizes_in_a_batch_are_refused(images: Path) -> None:
    with pytest.raises(DataError, match=r"image 1 of a batch has shape \[3, 9, 12\], the first one \[3, 8, 12\]; set"):
        first(opened(listed(images, FOUR, "batch_size: 2")), 1)


@pytest.mark.parametrize("color", [True, False])
def test_images_are_resized_linearly(images: Path, color: bool) -> None:
    more = SAME_SIZE if color else f"{SAME_SIZE} is_color: false"
    batch = first(opened(listed(images, FOUR, more)), 1)[0]["data"]
    assert batch.shape == (3, 3 if color else 1, 6, 5)
    flag = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    for number, image in enumerate(batch):
        expected = cv2.resize(cv2.imread(str(images / f"{number}.png"), flag), (5, 6), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(image, np.atleast_3d(expected).transpose(2, 0, 1))


def test_the_label_follows_the_last_space(images: Path) -> None:
    for name in ("a b.png", "c\u2028d.png", "e\udcff.png"):
        (images / name).write_bytes(png(picture(0)))
    source = opened(listed(images, "a b.png 1\r\n\n  \nc\u2028d.png 2\ne\udcff.png 3"))
    assert labels(list(source.single_pass())) == [1, 2, 3]


def test_the_root_folder_is_put_before_the_name_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "train_0.png").write_bytes(png(picture(0)))
    (tmp_path / "list.txt").write_text("0.png 5")
    parameters = 'image_data_param { source: "list.txt" root_folder: "train_" batch_size: 1 }'
    assert labels(first(opened(data_layer("ImageData", parameters), tmp_path), 1)) == [5]


def test_every_round_is_shuffled_anew_and_the_same_for_a_seed(images: Path) -> None:
    layer = listed(images, FOUR, f"{SAME_SIZE} shuffle: true")
    rounds = np.reshape(labels(first(opened(layer, seed=3), 40)), (30, 4))
    np.testing.assert_array_equal(np.sort(rounds, axis=1), np.tile(np.arange(4), (30, 1)))
    assert len({tuple(row) for row in rounds.tolist()}) > 10
    source = opened(layer, seed=3)
    assert labels(first(source, 40)) == labels(first(source, 40)) == rounds.ravel().tolist()
    assert labels(first(opened(layer, seed=4), 40)) != rounds.ravel().tolist()


def test_a_single_pass_has_every_image_once(images: Path) -> None:
    passed = list(opened(listed(images, FOUR, f"{SAME_SIZE} shuffle: true rand_skip: 3")).single_pass())
    assert [len(batch["label"]) for batch in passed] == [3, 1]
    assert sorted(labels(passed)) == [0, 1, 2, 3]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_fewer_than_rand_skip_images_are_skipped_once(images: Path, phase) -> None:
    layer = listed(images, FOUR, f"{SAME_SIZE} rand_skip: 3", phase=phase)
    starts = set()
    for seed in range(40):
        seen = labels(first(opened(layer, seed=seed), 4))
        starts.add(seen[0])
        assert seen == [(seen[0] + number) % 4 for number in range(12)]
    assert starts == {0, 1, 2}


@pytest.mark.parametrize(
    "line", ["0.png", "0.png one", "0.png 1.5", "0.png \u00b2", "0.png " + "9" * 5000, "0.png\t1", " 3"]
)
def test_a_line_without_a_label_is_named_by_its_number(images: Path, line: str) -> None:
    with pytest.raises(DataError) as raised:
        opened(listed(images, f"0.png 0\n{line}\n"))
    assert str(raised.value) == (
        f"net.prototxt:1: layer 'd': {images.parent}/list.txt:2: expected 'path label', "
        f"found '{' '.join(line.strip()[:80].split())}'; end each line with a space and a whole number"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the image list '{list}' names no image; write one 'path label' a line"),
        (
            "bad.png 0",
            "the image '{images}/bad.png' holds an image that cannot be decoded; replace it, or take it off the list",
        ),
        (
            "folder 0",
            "the image '{images}/folder' cannot be read: Is a directory; replace it, or take it off the list",
        ),
        (
            "none.png 0",
            "the image '{images}/none.png' does not exist: looked for {images}/none.png; "
            "correct the path in the prototxt",
        ),
    ],
    ids=["empty list", "no image", "a folder", "missing"],
)
def test_what_is_said_of_images_that_cannot_be_had(images: Path, text: str, what: str) -> None:
    (images / "bad.png").write_bytes(b"no image")
    (images / "folder").mkdir()
    with pytest.raises(DataError) as raised:
        opened(listed(images, text))
    places = {"list": images.parent / "list.txt", "images": images}
    assert str(raised.value) == f"net.prototxt:1: layer 'd': {what.format(**places)}"


def test_a_list_that_is_a_folder(images: Path) -> None:
    with pytest.raises(DataError, match=f"cannot read the image list '{images}': Is a directory; name a text file$"):
        opened(data_layer("ImageData", f'image_data_param {{ source: "{images}" }}'))


@pytest.mark.parametrize("more", ["new_height: 3", "new_width: 3"])
def test_height_and_width_go_together(images: Path, more: str) -> None:
    with pytest.raises(NetError, match=r"layer 'd': new_height and new_width go together; set both or none$"):
        opened(listed(images, FOUR, more))


@pytest.mark.parametrize("size", [(4294967295, 1), (65535, 65535), (40000, 40000), (1, 100000000)])
def test_sizes_beyond_the_limit_of_images_are_refused(images: Path, size: tuple[int, int]) -> None:
    layer = listed(images, FOUR, f"new_height: {size[0]} new_width: {size[1]}")
    with pytest.raises(NetError) as raised:
        opened(layer)
    assert str(raised.value) == (
        f"{place(layer, 'new_height')}: layer 'd': images of {size[0]} x {size[1]} pixels are larger than "
        "OPENCV_IO_MAX_IMAGE_PIXELS allows; make new_height and new_width smaller; 67108864 pixels are allowed"
    )


def test_the_limit_is_that_of_images(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, most in (("30", 30), ("2kb", 2048), ("1MB", 1 << 20), ("", 1 << 26), ("many", 1 << 26)):
        monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", text)
        assert max_pixels() == most
    opened(listed(images, FOUR, SAME_SIZE))
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "29")
    with pytest.raises(NetError, match="images of 6 x 5 pixels are larger"):
        opened(listed(images, FOUR, SAME_SIZE))


@pytest.mark.parametrize(
    ("code", "what"), [(-4, "needs more memory than there is"), (-215, "cannot be resized to 6 x 5 pixels")]
)
def test_what_opencv_cannot_resize(images: Path, monkeypatch: pytest.MonkeyPatch, code: int, what: str) -> None:
    monkeypatch.setattr(cv2, "resize", failing(code))
    with pytest.raises(DataError, match=rf"the image '{images}/0.png' {what}; replace it, or take it off the list$"):
        opened(listed(images, FOUR, SAME_SIZE))


def test_a_batch_size_is_one_where_it_is_not_given(images: Path) -> None:
    assert opened(listed(images, FOUR, "")).batch_size == 1
    with pytest.raises(NetError, match="batch_size must be at least 1"):
        opened(listed(images, FOUR, "batch_size: 0"))


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden material is not beside the project")
@pytest.mark.parametrize("case", ["image_data_batch1_own_size", "image_data_resize", "image_data_resize_crop_mean"])
def test_the_pngs_of_the_original_are_met_exactly(case: str) -> None:
    """The lists mix JPEGs, which may differ by the decoder, with PNGs, which may not."""
    source = opened(build_net(read_prototxt(GOLDEN / f"{case}.prototxt")).layers[0], GOLDEN)
    names = [line.split()[0] for line in (GOLDEN / "list.txt").read_text().splitlines()]
    expected = np.load(GOLDEN / f"{case}.npz")
    compared = 0
    for number, batch in enumerate(islice(source.batches(), 3)):
        for row, image in enumerate(batch["data"]):
            if names[(number * source.batch_size + row) % len(names)].endswith(".png"):
                np.testing.assert_allclose(image, expected[f"batch{number}/data"][row], rtol=0, atol=1e-5)
                compared += 1
    assert compared
