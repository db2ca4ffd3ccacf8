"""Prototxts, JSON and YAML made to do harm, through the whole program: one line and status 2, in little memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.cli.hostile import Run, runs
from tests.cli.hostile_nets import NETS, on_small
from tests.cli.runner import MODELS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as Linux has them")

WEIGHTS = MODELS / "digits_lenet" / "digits_lenet.caffemodel"
NET = MODELS / "digits_lenet" / "train_val.prototxt"
FIXED = ("--trimming_mode", "dynamic_fixed_point")

COMMANDS: dict[str, tuple[object, ...]] = {
    "inspect": ("inspect", "--model", "NET"),
    "doctor": ("doctor", "NET"),
    "test": ("test", "--model", "NET"),
    "run": ("run", "--model", "NET", "--inputs", "in.npz", "--outputs", "o.npz"),
    "double": ("run", "--model", "NET", "--inputs", "in.npz", "--outputs", "o.npz", "--arithmetic", "float64"),
    "convert": ("convert", "--model", "NET", "--output", "o.onnx"),
    "compare": ("compare", "--model", "NET", "--against", "NET", "--inputs", "in.npz"),
    "apply": ("apply", "--model", "NET", "--formats", "formats.json", "--output", "o.prototxt"),
    "convert-dialect": ("convert-dialect", "--model", "NET", "--to", "chaidnn", "--output", "o.prototxt"),
    "upgrade": ("upgrade", "--model", "NET", "--output", "o.prototxt"),
    "fold": ("fold", "--model", "NET", "--weights", WEIGHTS, "--output", "o.prototxt", "--output-weights", "o.cm"),
    "quantize": ("quantize", "--model", "NET", "--weights", WEIGHTS, "--model_quantized", "q.prototxt", *FIXED),
    "export": ("export", "--model", "NET", "--weights", WEIGHTS, "--target", "hardware", "--output", "hw"),
    "init": ("init", "--model", "NET", "--images", MODELS / "digits_data" / "test_lmdb", "--output", "i.prototxt"),
}

SAID = {
    "deep": "messages are nested more than 100 deep",
    "dim-negative": "an input of shape (-1, 3, 8, 8) holds nothing",
    "num-output-2-32": "has more than 2147483647 values",
    "num-output-negative": "num_output is -3, out of its range 0 .. 4294967295",
    "pool-huge": "is out of all proportion to an image of 8 x 8",
    "tiles": "blob 'b2' of shape (2, 3000000000, 8, 8) has more than 2147483647 values",
    "interp": "has more than 2147483647 values",
    "reshape-dims": "a blob has 32 axes at most, these are 1000 dims",
    "prior-ratios": "aspect_ratio must be a positive number, given 1000 times at most",
    "detection-classes": "num_classes 4294967295 is more than 1000000",
    "lrn": "set RISTRETTO_MAX_STEPS to a larger number",
    "dummy": "blob 'x' of shape (1099511627776,) has more than 2147483647 values",
    "dummy-negative": "data of shape (-4,) holds nothing",
    "own-bottom": "unknown bottom blob 'y'",
    "cycle": "unknown bottom blob 'b'",
    "twice-top": "top blob 'y' is made by more than one layer",
    "int-2-64": "num_output is 18446744073709551617, out of its range",
    "enum": "pool has no value '17'",
    "repeated": "num_output is given 2 times",
    "escapes": "\\x1b]0;x\\x07 ': the name holds a control character",
    "no-utf8": "the name is no UTF-8",
    "layers-100000": "more than 10000 layers; if it is meant so, set RISTRETTO_MAX_LAYERS",
    "splits": "1 bottoms and 100000 tops, more than 1000",
    "types-unknown": "and 4980 more",
    "python": "the layer is Python code that this tool does not run: class system of module os",
}

HARMLESS = {"dims-overflow", "dims-2-33", "batch-2-30", "data-batch", "data-zero", "memory-data", "twice-name"}
HARMLESS |= {"float-1e400", "layers-one-name", "layers-one-line", "fields-unknown", "fields-nested", "prior-boxes"}
"""Nets that run all the same where arrays are given in place of their data."""

LARGE = {name for name in NETS if name.startswith(("long", "layers-o"))}


def prepared(folder: Path, nets: Mapping[str, str]) -> None:
    np.savez(folder / "in.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    (folder / "formats.json").write_text('{"layers": {"l": {"in": {"bw": 8, "fl": 5}}}}')
    for name, text in nets.items():
        (folder / f"{name}.prototxt").write_text(text)


def command(name: str, net: str) -> list[object]:
    return [f"{net}.prototxt" if word == "NET" else word for word in COMMANDS[name]]


def check(run: Run, *, may_succeed: bool) -> None:
    assert run.status in ((0, 2) if may_succeed else (2,)), run.err
    assert "our fault" not in run.err
    assert "Traceback" not in run.err
    if run.status == 2 and run.err:  # the doctor finds, and says so on stdout
        lines = [line for line in run.err.splitlines() if "warning: " not in line and not line.startswith("I")]
        assert len(lines) == 1, run.err
    assert max(map(len, run.err.splitlines()), default=0) < 3000
    assert "\x1b" not in run.err + run.out


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """What ``run`` says to each net."""
    folder, names = tmp_path_factory.mktemp("hostile"), [name for name in NETS if name not in LARGE]
    prepared(folder, NETS)
    return dict(zip(names, runs([(folder, command("run", name)) for name in names]), strict=True))


@pytest.mark.parametrize("name", [name for name in NETS if name not in LARGE])
def test_a_net_is_refused(outcomes: dict[str, Run], name: str) -> None:
    check(outcomes[name], may_succeed=name in HARMLESS)
    assert SAID.get(name, "") in outcomes[name].message


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_net_with_every_command(tmp_path: Path, name: str) -> None:
    prepared(tmp_path, NETS)
    for net, run in zip(NETS, runs([(tmp_path, command(name, net)) for net in NETS]), strict=True):
        check(run, may_succeed=True)
        left = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))
        assert not left, f"{net} left {left} behind"


DEEP = "[" * 100_000

FILES = {
    "formats-deep": ("apply", DEEP, "nested too deep"),
    "formats-70-deep": ("apply", '{"layers": ' + "[" * 70 + "]" * 70 + "}", "nested too deep"),
    "formats-1e999": ("apply", '{"layers": {"l": {"in": {"bw": 1e999}}}}', "1e999 is too large a number"),
    "formats-nan": ("apply", '{"layers": {"l": {"in": {"bw": NaN}}}}', "NaN is no number in JSON"),
    "formats-digits": ("apply", '{"layers": {"l": {"in": {"bw": ' + "9" * 9999 + "}}}}", "too large"),
    "formats-bw": ("apply", '{"layers": {"l": {"in": {"bw": 4294967296, "fl": 1}}}}', "bw must be in"),
    "formats-twice": ("apply", '{"layers": {}, "layers": {}}', "'layers' is given twice"),
    "formats-text": ("apply", '{"layers": {"l": {"in": "8"}}}', "in must be an object"),
    "formats-list": ("apply", "[]", 'needs an object "layers"'),
    "formats-bytes": ("apply", "\udcff\udcfe", "it is not text"),
    "ranges-nan": (
        "ranges",
        '{"layers": {"conv1": {"ranges": {"in": {"min": NaN}}}}}',
        "NaN is no number",
    ),
    "ranges-shape": ("ranges", '{"layers": {"conv1": 7}}', 'the layer needs an object "ranges"'),
    "report-shape": ("report", '{"schema": 1, "ladders": 3, "layers": []}', "the report cannot be drawn"),
    "report-schema": ("report", '{"schema": "9", "ladders": {}, "layers": {}}', "schema '9'"),
    "verify-shape": ("verify", '{"provenance": {"flags": [], "files": 7}}', "makes no sense"),
    "verify-deep": ("verify", DEEP, "nested too deep"),
    "verify-flags": (
        "verify",
        '{"provenance": {"command": "test", "outputs": [], "versions": {}, "files": [], "flags": {"iterations": {}}}}',
        "iterations cannot be {}",
    ),
    "jobs-tag": ("batch", "jobs: !!python/object/apply:os.system ['touch ran']", "job 1 is no mapping"),
    "jobs-tag-inside": (
        "batch",
        "jobs: [{model: !!python/object/apply:os.system ['touch ran']}]",
        "jobs-tag-inside:1:",
    ),
    "jobs-laughs": (
        "batch",
        "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40))
        + "jobs: *a39",
        "the file has no 'a0'",
    ),
    "jobs-laughs-in-a-flag": (
        "batch",
        "jobs:\n- model: &a0 [x, x]\n" + "".join(f"  s{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
        "expected one value",
    ),
    "jobs-quadratic-laughs": (
        "batch",
        f"jobs:\n- model: m\n  matrix:\n    images: [&a [{'x,' * 10_001}], {'*a,' * 1_000}]",
        "jobs-quadratic-laughs:4: a list has 10001 values; 10000 are allowed",
    ),
    "jobs-deep": ("batch", DEEP, "nested too deeply"),
    "jobs-itself": ("batch", "jobs: &a [*a]", "no mapping"),
    "solver-deep": ("finetune", "net <" * 10_000, "nested more than 100 deep"),
    "solver-iterations": (
        "finetune",
        'net: "n" base_lr: 1 lr_policy: "fixed" max_iter: 1000000000000000000',
        "out of its range",
    ),
    "solver-nan": ("finetune", 'net: "n" base_lr: nan lr_policy: "fixed" max_iter: 1', ""),
    "solver-itself": ("finetune", 'net: "solver-itself" base_lr: 1 lr_policy: "fixed" max_iter: 1', ""),
}
"""By name: the command that reads it, what is in it, and what is said."""

READERS: dict[str, tuple[object, ...]] = {
    "apply": ("apply", "--model", "small.prototxt", "--output", "o.prototxt", "--formats"),
    "ranges": (
        *("quantize", "--model", NET, "--weights", WEIGHTS, "--data-root", MODELS, *FIXED),
        "--model_quantized",
        "q.prototxt",
        "--ranges",
    ),
    "report": ("report", "--html", "o.html", "--report"),
    "verify": ("verify",),
    "batch": ("batch", "--dry_run"),
    "finetune": ("finetune", "--weights", WEIGHTS, "--solver"),
}


@pytest.fixture(scope="module")
def read_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.prototxt").write_text(on_small('type: "Convolution" convolution_param { num_output: 2 }'))
    jobs = []
    for name, (reader, text, _) in FILES.items():
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        jobs.append((folder, [*READERS[reader], name]))
    found = dict(zip(FILES, runs(jobs), strict=True))
    assert not (folder / "ran").exists()
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_refused(read_files: dict[str, Run], name: str) -> None:
    run = read_files[name]
    if "torch" in run.message and "not installed" in run.message:
        pytest.skip(run.message)
    check(run, may_succeed=False)
    assert FILES[name][2] in run.message
