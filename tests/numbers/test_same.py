"""The same inputs, flags and seed give the same files, byte for byte but for times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from tests.cli.runner import MODELS
from tests.numbers.nets import EIGHT, NET, Place

RESNET = ("--model", str(MODELS / "digits_resnet" / "train_val.prototxt"), "--data-root", str(MODELS))
RESNET += ("--weights", str(MODELS / "digits_resnet" / "digits_resnet.caffemodel"))
LENET = ("--model", NET, "--weights", "net.caffemodel")
RESULTS = ("--model_quantized", "q.prototxt", "--weights_quantized", "q.caffemodel", "--report", "r.json")
FIXED = ("--trimming_mode", "dynamic_fixed_point", "--iterations", "3")

JOBS = {
    "search": (*LENET, *FIXED, *RESULTS, "--html", "r.html"),
    "mixed": (*LENET, *FIXED, *RESULTS, "--search", "mixed"),
    "fast": (*LENET, *FIXED, *RESULTS, "--fast", "--per_channel", "--ladder", "8,6"),
    "stochastic": (*LENET, *FIXED, *RESULTS[:2], "--report", "r.json", *EIGHT, "--rounding", "stochastic"),
    "minifloat": (*LENET, "--trimming_mode", "minifloat", "--iterations", 3, *RESULTS),
    "power of two": (*LENET, "--trimming_mode", "integer_power_of_2_weights", "--iterations", 3, *RESULTS),
    "equalized": (*RESNET, *FIXED, *RESULTS, *EIGHT, "--equalize"),
    "compensated": (
        *RESNET, *FIXED, *RESULTS, *EIGHT, "--weight_rounding", "compensated", "--bias_correction",
        "--rounding_images", 16,
    ),
}  # fmt: skip
QUICK = frozenset({"stochastic"})
"""The others take a minute together."""

SOME = [pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,)) for name in JOBS]


def without_times(content: bytes) -> bytes:
    """A report without its wall times; the page has them in the JSON that it carries, and in words."""
    return b"\n".join(line for line in content.splitlines() if b"seconds" not in line and b" s</" not in line)


def results(here: Place, *words: object) -> dict[str, bytes]:
    """What a job writes, by the file's name."""
    outcome = here.call("quantize", *words)
    assert outcome.status == 0, outcome.err
    files = sorted(here.folder.glob("[qr].*"))
    found = {path.name: without_times(path.read_bytes()) for path in files}
    for path in files:
        path.unlink()
    return found


@pytest.mark.parametrize("name", SOME)
def test_threads_and_runs(here: Place, name: str) -> None:
    job = JOBS[name]
    one = results(here, *job, "--threads", 1)
    assert len(one) >= 2
    assert results(here, *job, "--threads", 1) == one
    assert results(here, *job, "--threads", 3) == one


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_workers(here: Place, name: str) -> None:
    one = results(here, *JOBS[name])
    assert results(here, *JOBS[name], "--workers", 2) == one
    assert results(here, *JOBS[name], "--workers", 3, "--threads", 2) == one


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search", "mixed"])
def test_other_processes(here: Place, name: str) -> None:
    job, environment = JOBS[name], {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "0"}
    one = results(here, *job)
    words = [sys.executable, "-m", "ristretto", "quantize", *map(str, job)]
    subprocess.run(words, check=True, capture_output=True, env=os.environ | environment)
    files = sorted(here.folder.glob("[qr].*"))
    assert {path.name: without_times(path.read_bytes()) for path in files} == one


def paths_of(data: object, at: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a JSON file with its place."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from paths_of(value, f"{at}.{key}")
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from paths_of(value, f"{at}.{number}")
    else:
        yield at, data


def test_other_folders(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths stand in a report as they were given; nothing else depends on the folder."""
    words = (*FIXED, *EIGHT, *RESULTS)
    assert here.call("quantize", *LENET, *words).status == 0
    other = here.folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    where = ("--model", here.folder / NET, "--weights", here.folder / "net.caffemodel", "--data-root", here.folder)
    assert here.call("quantize", *where, *words).status == 0
    for name in ("q.prototxt", "q.caffemodel"):
        assert (other / name).read_bytes() == (here.folder / name).read_bytes()
    before, after = (dict(paths_of(json.loads((folder / "r.json").read_text()))) for folder in (here.folder, other))
    differing = {place for place in before | after if before.get(place) != after.get(place) and "seconds" not in place}
    assert differing <= {
        ".settings.model", ".settings.weights.0", ".provenance.flags.model", ".provenance.flags.weights.0",
        ".provenance.flags.data_root", *(f".provenance.files.{number}.path" for number in range(4)),
    }  # fmt: skip


def images(here: Place) -> None:
    """Give the net its images as files, and a list of them."""
    rng = np.random.default_rng(0)
    (here.folder / "images").mkdir()
    lines = []
    for number in range(20):
        cv2.imwrite(str(here.folder / "images" / f"{number}.png"), rng.integers(0, 256, (16, 16), np.uint8))
        lines.append(f"{number}.png {number % 10}")
    (here.folder / "list.txt").write_text("\n".join(lines))
    text = (here.folder / NET).read_text().replace('type: "Data"', 'type: "ImageData"')
    for split in ("train", "test"):
        old = f'source: "digits_data/{split}_lmdb"'
        text = text.replace(old, 'source: "list.txt" root_folder: "images/" is_color: false')
    text = text.replace("backend: LMDB", "").replace("data_param", "image_data_param")
    (here.folder / NET).write_text(text)


def test_image_lists_and_scripts_belong_to_what_a_report_was_made_from(here: Place) -> None:
    images(here)
    (here.folder / "mine.py").write_text("def half(batches):\n    return 0.5 * bool(list(batches))\n")
    words = (*LENET, *FIXED, *EIGHT, *RESULTS, "--score_script", "mine.py:half")
    assert here.call("quantize", *words).status == 0
    files = {file["role"]: file for file in here.report()["provenance"]["files"]}
    assert files["images"]["path"] == "list.txt"
    assert files["images"]["folder"] == "images/"
    assert files["score_script"]["path"] == "mine.py"
    assert here.call("verify", "r.json", "--tolerance", 0).status == 0
    (here.folder / "mine.py").write_text("def half(batches):\n    return 0.25 * bool(list(batches))\n")
    outcome = here.call("verify", "r.json")
    assert outcome.status == 3
    assert "score_script mine.py: is another file now" in outcome.out
    image = here.folder / "images" / "7.png"
    image.write_bytes((here.folder / "images" / "8.png").read_bytes())
    outcome = here.call("verify", "r.json")
    assert "images list.txt: is another file now" in outcome.out


def test_versions_say_what_the_processor_can_do(here: Place) -> None:
    assert here.test().status == 0
    assert isinstance(here.report("t.json")["provenance"]["versions"]["cpu"], str)


def test_exports_and_comparisons(here: Place) -> None:
    assert here.quantize("--iterations", 2).status == 0
    jobs: dict[str, tuple[object, ...]] = {
        "onnx": ("export", "--target", "qonnx"),
        "hardware": ("export", "--target", "hardware"),
    }
    for name, words in jobs.items():
        runs = []
        for number in range(2):
            folder = here.folder / f"{name}{number}"
            outcome = here.call(*words, "--model", "q.prototxt", "--weights", "net.caffemodel", "--output", folder)
            assert outcome.status == 0, outcome.err
            runs.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        assert runs[0] == runs[1]
        assert runs[0]
    words = ("compare", "--model", NET, "--weights", "net.caffemodel", "--against", "q.prototxt", "--json")
    assert here.call(*words, "--threads", 1).out == here.call(*words, "--threads", 3).out
    run = ("run", "--model", NET, "--weights", "net.caffemodel", "--outputs")
    assert here.call(*run, "a.npz").status == here.call(*run, "b.npz").status == 0
    assert (here.folder / "a.npz").read_bytes() == (here.folder / "b.npz").read_bytes()
