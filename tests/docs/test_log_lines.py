"""docs/log.md has every line that quantize and test log, with its place, and no line that they do not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ristretto.report.glog as glog
from tests.cli.runner import MODELS, ristretto
from tests.docs.pages import DOCS

LENET, RESNET = (
    ("--model", MODELS / name / "train_val.prototxt", "--weights", MODELS / name / f"{name}.caffemodel")
    for name in ("digits_lenet", "digits_resnet")
)
FIXED = ("--trimming_mode", "dynamic_fixed_point")
EIGHT = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
NEW_WEIGHTS = ("--weights_quantized", "q.caffemodel")
JOBS = (
    (*LENET, *FIXED, "--iterations", "all", "--report", "r.json", "--error_margin", 0.6),
    (*LENET, *FIXED, "--iterations", "all", "--fast", "--error_margin", 1),
    (*LENET, *FIXED, "--iterations", 20, *EIGHT, "--gpu", 0),
    (*LENET, *FIXED, "--iterations", 2, "--skip", "*:activations", "--only", "conv*", "--resume"),
    (*LENET, *FIXED, "--iterations", 2, "--only", "ip*", "--score", "loss", "--bw_fc_params", 8),
    (*LENET, "--trimming_mode", "minifloat", "--iterations", 2),
    (*LENET, "--trimming_mode", "integer_power_of_2_weights", "--iterations", 2),
    (*LENET, *FIXED, "--iterations", 2, "--search", "mixed", *NEW_WEIGHTS, "--equalize"),
    (*RESNET, *FIXED, "--iterations", 2, *EIGHT, *NEW_WEIGHTS, "--rounding_images", 16),
)
UNSEEN = {
    "Use GPU with device ID <number>": "no CUDA here",
    "Kept <layer>: <reason>.": "tests/pipeline has nets with such layers",
    "Going on from <n> finished scores in <file>.": "tests/pipeline/test_resume.py stops jobs",
    "The net has no <CONV or FC> layers: <CONV or FC> weights are not searched.": "no such net comes with the tool",
    "All together miss the margin: CONV weights get <n>bit.": "the group that is widened is the one that lost most",
    "All together miss the margin: FC weights get <n>bit.": "the same",
    "All together miss the margin: layer activations get <n>bit.": "the same",
}
"""Lines that the jobs of this test do not print, and why; the test of templates holds the page to those too."""

HEAD = re.compile(r"^([IW])\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ ([\w.]+:\d+)\] (.*)$")


@dataclass(frozen=True)
class Row:
    message: str
    place: str
    warns: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        parts = re.split(r"<[^>]+>", " ".join(self.message.split()))
        return re.compile("(.+?)".join(map(re.escape, parts)))

    def matches(self, text: str) -> bool:
        return self.pattern.fullmatch(" ".join(text.split())) is not None


def rows() -> Iterator[Row]:
    """The page's lines; a warning's place is that of all our lines."""
    told, warnings = (DOCS / "log.md").read_text().split("## Warnings")
    for place, message in re.findall(r"^\| `([\w.:]+)` \| `([^`]+)` \|", told, re.MULTILINE):
        yield Row(message, place)
    for message in re.findall(r"\| `([^`]+)` \|$", warnings, re.MULTILINE):
        yield Row(message, "quantize.py:1", warns=True)


ROWS = tuple(rows())


def test_every_line_of_real_jobs_is_documented(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: set[Row] = set()
    root = ("--data-root", MODELS)
    logs = [
        ristretto(capsys, "quantize", "--model_quantized", "q.prototxt", "--calibration_batches", 2, *root, *job)
        for job in JOBS
    ]
    logs.append(ristretto(capsys, "test", *LENET, *root, "--iterations", 13))
    for log in logs:
        assert log.status == 0, log.err
        for line in log.err.splitlines():
            found = HEAD.match(line)
            assert found, line
            fitting = {row for row in ROWS if row.place == found[2] and row.matches(found[3])}
            assert fitting, line
            seen |= fitting
    unseen = {row for row in ROWS if row not in seen and row.message not in UNSEEN and not row.warns}
    assert unseen == set()
    assert sum(row.warns for row in seen) >= 4


def templates() -> Iterator[str]:
    """The messages in report/glog.py, with <x> for what is filled in."""
    for node in ast.walk(ast.parse(Path(glog.__file__).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LogLine":
            text = _text(node.args[0])
            if text.replace("<x>", "").strip():
                yield text
        if isinstance(node, ast.FunctionDef) and node.name == "_left_out":
            yield from (_text(item.value) for item in ast.walk(node) if isinstance(item, ast.Return) and item.value)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    return "<x>"


def test_every_message_of_the_program_is_documented() -> None:
    found = set(templates())
    assert len(found) > 30
    for template in found:
        text = " ".join(re.sub("<x>", "1", template).split())
        ends = re.escape(text).replace("1", ".+")
        assert any(row.matches(text) or re.fullmatch(ends, " ".join(row.message.split())) for row in ROWS), template


def test_documented_warnings_are_in_the_program() -> None:
    package = Path(glog.__file__).parents[1]
    said = [
        node.value
        for module in package.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    corpus = "\n".join(said)
    for row in ROWS:
        for part in re.split(r"<[^>]+>|[:;]", row.message) if row.warns else ():
            cuts = range(len(part) + 1)  # a message may be put together from two pieces
            assert any(part[:cut] in corpus and part[cut:] in corpus for cut in cuts), (row.message, part)


def test_the_page_has_no_line_twice() -> None:
    assert len(set(ROWS)) == len(ROWS)
    assert set(UNSEEN) <= {row.message for row in ROWS}
