"""``ristretto init``: from a deploy net and images to a net that goes through every other command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ristretto.data.datum import parse_datum
from ristretto.pipeline.init.images import split
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.databases import reading

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet"
DEPLOY, WEIGHTS = LENET / "deploy.prototxt", LENET / "digits_lenet.caffemodel"
SCALE = ("--scale", 0.00390625)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 600 test digits as PNG files, a folder for each class."""
    folder = tmp_path_factory.mktemp("photos")
    source = str(MODELS / "digits_data" / "test_lmdb")
    with reading(source) as transaction:
        for number, (_, value) in enumerate(transaction.cursor()):
            image, label = parse_datum(value, None)
            target = folder / str(int(label)) / f"{number:04}.png"
            target.parent.mkdir(exist_ok=True)
            assert cv2.imwrite(str(target), image[0])
    return folder


def init(capsys: Capture, output: Path, images: Path, *more: object, model: Path = DEPLOY) -> Outcome:
    return ristretto(capsys, "init", "--model", model, "--images", images, "--output", output, *more)


def made(capsys: Capture, output: Path, images: Path, *more: object, model: Path = DEPLOY) -> Outcome:
    outcome = init(capsys, output, images, *more, model=model)
    assert outcome.status == 0, outcome.err
    return outcome


def mistake(capsys: Capture, folder: Path, images: Path, *more: object, model: Path = DEPLOY) -> str:
    output = folder / "never.prototxt"
    outcome = init(capsys, output, images, *more, model=model)
    assert (outcome.status, outcome.out) == (2, "")
    assert not list(folder.glob("never*"))
    return outcome.message.removeprefix("ristretto: ")


def scores(capsys: Capture, net: Path, *more: object) -> dict[str, float]:
    outcome = ristretto(capsys, "test", "--model", net, "--weights", WEIGHTS, "--iterations", "all", *more)
    assert outcome.status == 0, outcome.err
    return {name: float(value) for name, value in re.findall(r"^(\w+): ([\d.]+)", outcome.out, re.MULTILINE)}


def test_folders_of_classes_score_as_the_lmdb(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "train_val.prototxt"
    outcome = made(capsys, output, photos, *SCALE)
    assert "10 classes, labels the folders' own numbers" in outcome.out
    original = scores(capsys, LENET / "train_val.prototxt", "--data-root", MODELS)
    again = scores(capsys, output)
    assert again["accuracy"] == original["accuracy"]
    assert again["loss"] == pytest.approx(original["loss"], rel=1e-4)
    assert again["accuracy_top5"] >= again["accuracy"]
    labels = (tmp_path / "train_val_images_labels.txt").read_text().splitlines()
    assert labels == [f"{digit} {digit}" for digit in range(10)]


def test_an_lmdb(capsys: Capture, tmp_path: Path) -> None:
    output = tmp_path / "train_val.prototxt"
    made(
        capsys,
        output,
        MODELS / "digits_data" / "test_lmdb",
        "--train_images",
        MODELS / "digits_data" / "train_lmdb",
        *SCALE,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["train_val.prototxt"]
    assert scores(capsys, output)["accuracy"] == pytest.approx(0.985)
    assert output.read_text().count("backend: LMDB") == 2


def test_the_result_goes_through_doctor_and_quantize(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    output, report = tmp_path / "train_val.prototxt", tmp_path / "report.json"
    made(capsys, output, photos, *SCALE, "--train", 0.25)
    assert ristretto(capsys, "doctor", output, WEIGHTS).status == 0
    outcome = ristretto(
        capsys, "quantize", "--model", output, "--weights", WEIGHTS, "--model_quantized", tmp_path / "q.prototxt",
        "--trimming_mode", "dynamic_fixed_point", "--iterations", "all", "--report", report,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    data = json.loads(report.read_text())
    assert data["baseline"]["images"] == 450
    assert data["margin_met"]
    train, test = ((tmp_path / f"train_val_images{end}.txt").read_text().splitlines() for end in ("_train", ""))
    assert (len(train), len(test)) == (150, 450)
    assert not set(train) & set(test)
    assert {line.split()[-1] for line in train} == set("0123456789")


def test_images_without_labels(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "net.prototxt"
    outcome = made(capsys, output, photos / "3", *SCALE)
    assert "the score is agreement with the float net" in outcome.out
    text = output.read_text()
    assert "Accuracy" not in text
    assert '"label"' not in text
    outcome = ristretto(
        capsys, "quantize", "--model", output, "--weights", WEIGHTS, "--model_quantized", tmp_path / "q.prototxt",
        "--trimming_mode", "dynamic_fixed_point", "--iterations", "all", "--bw_activations", 8,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "float 1" in outcome.out


def test_the_text_is_kept(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "net.prototxt"
    made(capsys, output, photos)
    deploy = DEPLOY.read_text()
    start, end = deploy.index("layer {"), deploy.index("# 16x16 -> 12x12")
    text = output.read_text()
    assert text.startswith(deploy[:start])
    assert deploy[end:] in text


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "paths alone"])
def test_lists(capsys: Capture, tmp_path: Path, photos: Path, labelled: bool) -> None:
    (tmp_path / "a folder").mkdir()
    lines = []
    for digit in range(3):
        source = sorted((photos / str(digit)).iterdir())[0]
        shutil.copy(source, tmp_path / "a folder" / f"{digit} x.png")
        lines.append(f"a folder/{digit} x.png" + f" {digit}" * labelled)
    (tmp_path / "list.txt").write_text("\n".join(lines))
    output = tmp_path / "net.prototxt"
    made(capsys, output, tmp_path / "list.txt", *SCALE, "--list_output", tmp_path / "mine.txt")
    written = (tmp_path / "mine.txt").read_text().splitlines()
    assert written[1] == f"{tmp_path}/a folder/1 x.png {1 if labelled else 0}"
    assert ("Accuracy" in output.read_text()) == labelled
    assert "batch_size: 3" in output.read_text()
    assert ristretto(capsys, "doctor", output, WEIGHTS).status == 0


def test_preparation(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "ape").mkdir()
    rng = np.random.default_rng(0)
    for folder in ("cat", "ape"):
        image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "photos" / folder / "1.jpg"), image)
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(
        'input: "image" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "image" top: "fc" inner_product_param { num_output: 2 } }\n'
    )
    output = tmp_path / "net.prototxt"
    flags = ("--mean_value", "123,117,104", "--rgb", "--scale", 0.017, "--crop_size", 8, "--new_height", 12)
    outcome = made(
        capsys, output, tmp_path / "photos", *flags, "--new_width", 14, "--label_blob", "truth", model=deploy
    )
    assert "2 classes, labels by sorted folder name" in outcome.out
    text = output.read_text()
    assert re.findall(r"mean_value: (\d+)", text) == ["104", "117", "123"] * 2
    for piece in ("scale: 0.017", "crop_size: 8", "new_height: 12", "new_width: 14", 'top: "truth"'):
        assert text.count(piece) == 2
    assert "top_k" not in text  # two classes have no top 5
    assert (tmp_path / "net_images_labels.txt").read_text() == "0 ape\n1 cat\n"
    assert ristretto(capsys, "inspect", "--model", output).status == 0


def test_softmax_in_place_and_names_that_are_taken(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(
        DEPLOY.read_text()
        .replace('bottom: "ip2"\n  top: "prob"', 'bottom: "ip2"\n  top: "ip2"')
        .replace('"conv1"', '"loss"')
    )
    output = tmp_path / "net.prototxt"
    made(capsys, output, photos, *SCALE, model=deploy)
    text = output.read_text()
    assert "MultinomialLogisticLoss" in text
    assert 'top: "loss_"' in text
    assert ristretto(capsys, "inspect", "--model", output).status == 0


def test_nets_that_cannot_be_served(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    message = mistake(capsys, tmp_path, photos, model=LENET / "train_val.prototxt")
    assert "has a data layer already" in message
    deploy = tmp_path / "deploy.prototxt"
    layer = 'layer { name: "r" type: "ReLU" bottom: "a" top: "r" }'

    def refused(inputs: str) -> str:
        deploy.write_text(inputs + layer)
        return mistake(capsys, tmp_path, photos, model=deploy)

    two = 'layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }'
    assert "the net has 2 inputs: a, b" in refused(two)
    assert "the input states no shape" in refused('layer { name: "i" type: "Input" top: "a" }')
    flat = 'layer { name: "i" type: "Input" top: "a" input_param { shape { dim: 1 dim: 8 } } }'
    assert "images need four axes" in refused(flat)
    whole = 'layer { name: "i" type: "Input" top: "a" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }'
    assert "is no vector of scores" in refused(whole)


def test_images_that_cannot_be_used(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    assert "the images do not exist" in mistake(capsys, tmp_path, tmp_path / "gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in mistake(capsys, tmp_path, empty)
    shutil.copytree(photos / "1", empty / "11")
    assert "label 11 of" in mistake(capsys, tmp_path, empty)
    shutil.copy(next((photos / "1").iterdir()), empty)
    assert "beside the folders of classes" in mistake(capsys, tmp_path, empty)
    (tmp_path / "list.txt").write_text(f"{next((photos / '1').iterdir())} 1\nno_label.png\n")
    message = mistake(capsys, tmp_path, tmp_path / "list.txt")
    assert message.startswith(f"{tmp_path / 'list.txt'}:2: expected 'path label'")
    database = MODELS / "digits_data" / "test_lmdb"
    assert "not an LMDB" in mistake(capsys, tmp_path, database, "--train", 0.5)
    message = mistake(capsys, tmp_path, database, "--crop_size", 12)
    assert message.endswith(
        "the images come as 1 x 12 x 12, the net wants 1 x 16 x 16; resize images with --new_height 16 --new_width 16"
    )
    assert "crop_size 20 is larger" in mistake(capsys, tmp_path, database, "--crop_size", 20)


def test_flags_that_do_not_go_together(capsys: Capture, tmp_path: Path, photos: Path) -> None:
    assert "go together" in mistake(capsys, tmp_path, photos, "--new_height", 16)
    mean = ("--mean_value", 3, "--mean_file", "x")
    assert "exclude each other" in mistake(capsys, tmp_path, photos, *mean)
    assert "exclude each other" in mistake(capsys, tmp_path, photos, "--train", 0.5, "--train_images", photos)
    assert "is no list of numbers" in mistake(capsys, tmp_path, photos, "--mean_value", "blue")
    assert "there is no blob 'x'" in mistake(capsys, tmp_path, photos, "--score", "x")
    assert "the mean file" in mistake(capsys, tmp_path, photos, "--mean_file", "gone.binaryproto")
    assert "call the labels otherwise" in mistake(capsys, tmp_path, photos, "--label_blob", "ip1")


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_split_is_even(share: float) -> None:
    items = [(Path(str(number)), number // 40) for number in range(200)]
    train, test = split(items, share)
    assert sorted(train + test) == sorted(items)
    assert len(train) == pytest.approx(200 * share, abs=1)
    for label in range(5):
        assert sum(item[1] == label for item in train) == pytest.approx(40 * share, abs=1)


def test_the_documented_commands(
    capsys: Capture, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEPLOY, "deploy.prototxt")
    shutil.copy(WEIGHTS, "net.caffemodel")
    Path("photos").symlink_to(photos)
    block = (MODELS.parent / "docs" / "init.md").read_text().split("```")[1].removeprefix("sh\n")
    commands = block.replace("\\\n", " ").strip().splitlines()
    assert [command.split()[1] for command in commands] == ["init", "doctor", "quantize"]
    for command in commands:
        assert ristretto(capsys, *command.split()[1:]).status == 0
    assert Path("quantized.prototxt").exists()
