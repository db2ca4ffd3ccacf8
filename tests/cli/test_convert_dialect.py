"""Quantized prototxts of other dialects from the command line: converted, scored, compared and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.dialects.registry import detect, plan_of
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.golden.shared import SHARED, needs_shared

FOLDER = MODELS / "digits_lenet"
MODEL, WEIGHTS = FOLDER / "train_val.prototxt", FOLDER / "digits_lenet.caffemodel"
NET = ("--weights", WEIGHTS, "--data-root", MODELS, "--iterations", 4)
EIGHT = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)
OTHERS = ("chaidnn", "intel", "accdnn")


def quantize(capsys: pytest.CaptureFixture[str], target: Path, *more: object) -> Outcome:
    return ristretto(
        capsys, "quantize", "--model", MODEL, *NET, "--model_quantized", target,
        "--trimming_mode", "dynamic_fixed_point", *more,
    )  # fmt: skip


def convert(capsys: pytest.CaptureFixture[str], model: Path, to: str, output: Path, *more: object) -> Outcome:
    return ristretto(capsys, "convert-dialect", "--model", model, "--to", to, "--output", output, *more)


def scores(capsys: pytest.CaptureFixture[str], model: Path, folder: Path) -> tuple[str, np.ndarray]:
    """The score that is printed, and the net's answers to a batch to the last bit."""
    told = ristretto(capsys, "test", "--model", model, *NET)
    assert told.status == 0, told.err
    out = folder / "blobs.npz"
    ran = ristretto(capsys, "run", "--model", model, *NET[:4], "--blobs", "ip2", "--outputs", out)
    assert ran.status == 0, ran.err
    with np.load(out) as blobs:
        return told.out, blobs["ip2"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits LeNet in eight bits, in the original's dialect."""
    from ristretto.cli.main import main

    target = tmp_path_factory.mktemp("original") / "q.prototxt"
    arguments = [
        "quantize", "--model", MODEL, *NET, "--model_quantized", target, "--trimming_mode", "dynamic_fixed_point",
        "--preset", "original", "--dialect", "original", *EIGHT,
    ]  # fmt: skip
    assert main([str(argument) for argument in arguments]) == 0
    return target


@pytest.mark.parametrize("dialect", OTHERS)
def test_every_dialect_gives_the_same_bits(
    dialect: str, original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As near to the original as a dialect comes, then there and back: one score, one answer."""
    there, extended, back = (tmp_path / name for name in ("there.prototxt", "extended.prototxt", "back.prototxt"))
    assert convert(capsys, original, dialect, there, "--nearest").status == 0
    source = ("--from", dialect)
    assert convert(capsys, there, "extended", extended, *source).status == 0
    again = convert(capsys, extended, dialect, back)
    assert again.status == 0
    assert "warning" not in again.err
    assert there.read_bytes() == back.read_bytes()
    score, answers = scores(capsys, there, tmp_path)
    other_score, other_answers = scores(capsys, extended, tmp_path)
    assert score == other_score
    np.testing.assert_array_equal(answers, other_answers)
    assert len(np.unique(answers)) > 20


def test_accdnn_says_the_original_as_it_is(tmp_path: Path, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neighbours agree and a bias is as the weights: nothing has to give way, not even a byte."""
    text = original.read_text()
    plan = plan_of(build_net(read_prototxt(original))).layers
    layers = {
        name: {
            "in": {"bw": 8, "fl": formats.input.fl},  # type: ignore[union-attr]
            "out": {"bw": 8, "fl": following.input.fl},  # type: ignore[union-attr]
            "params": {"bw": 8, "fl": formats.params.fl},  # type: ignore[union-attr]
            "bias": {"bw": 8, "fl": formats.params.fl},  # type: ignore[union-attr]
        }
        for (name, formats), following in zip(plan.items(), [*list(plan.values())[1:], plan["ip2"]], strict=True)
    }
    formats = tmp_path / "formats.json"
    formats.write_text(json.dumps({"layers": layers}))
    agreeing, there = tmp_path / "agreeing.prototxt", tmp_path / "there.prototxt"
    applied = ristretto(
        capsys, "apply", "--model", original, "--formats", formats, "--output", agreeing, "--dialect", "original"
    )
    assert applied.status == 0
    assert agreeing.read_text() != text
    done = convert(capsys, agreeing, "accdnn", there)
    assert (done.status, done.out) == (0, f"{there}: formats of 4 layers, from original to accdnn\n")
    assert there.read_bytes() == agreeing.read_bytes()
    told = ristretto(capsys, "test", "--model", there, *NET, "--dialect", "accdnn")
    assert told.out == ristretto(capsys, "test", "--model", agreeing, *NET).out


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("chaidnn", "layer 'conv1': a bias in <8, "),
        ("intel", "layer 'conv1': an output in <8, "),
    ],
)
def test_what_cannot_be_said_is_one_line(
    dialect: str, message: str, original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.prototxt"
    outcome = convert(capsys, original, dialect, target)
    assert outcome.status == 2
    assert message in outcome.message
    assert "--nearest takes it (and for 3 more layers)" in outcome.message
    assert not target.exists()
    told = convert(capsys, original, dialect, target, "--nearest")
    assert told.status == 0
    assert "warning: layer 'conv1': " in told.err


@pytest.mark.parametrize("dialect", OTHERS)
def test_quantize_writes_what_it_scored(dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized, report = tmp_path / "q.prototxt", tmp_path / "report.json"
    outcome = quantize(capsys, quantized, "--dialect", dialect, "--report", report)
    assert outcome.status == 0, outcome.err
    told = json.loads(report.read_text())
    combined = told["combined"]["score"]
    scored, _ = scores(capsys, quantized, tmp_path)
    assert f"accuracy: {combined:g}" in scored
    assert detect(read_prototxt(quantized)) == {"accdnn": "original"}.get(dialect, dialect)
    inspected = ristretto(capsys, "inspect", "--model", quantized, "--data-root", MODELS)
    assert inspected.status == 0
    assert "warning" not in inspected.err
    compared = ristretto(
        capsys, "compare", "--model", MODEL, *NET[:4], "--against", quantized, "--images", 8, "--dialect", dialect
    )
    assert compared.status == 0, compared.err
    assert "conv2" in compared.out
    exported = ristretto(
        capsys, "export", "--model", quantized, *NET[:4], "--target", "caffe", "--output", tmp_path / "caffe"
    )
    assert exported.status == 0, exported.err
    plain = (tmp_path / "caffe" / "net.prototxt").read_text()
    assert "precision_param" not in plain
    assert "quantization_param" not in plain


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--dialect", "chaidnn", "--bw_activations", 16),
            "--bw_activations 16 cannot be said in the dialect chaidnn; it",
        ),
        (("--dialect", "intel", "--search", "mixed"), "--search mixed cannot be said in the dialect intel"),
        (("--dialect", "chaidnn", "--ladder", "16,4"), "no width of the ladder can be said in the dialect chaidnn"),
        (("--dialect", "accdnn", "--unsigned"), "--unsigned cannot be said in the dialect accdnn"),
    ],
)
def test_wishes_that_a_dialect_lacks_are_refused_at_once(
    flags: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = quantize(capsys, tmp_path / "q.prototxt", *flags)
    assert outcome.status == 2
    assert message in outcome.message


def test_a_float_net_has_nothing_to_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = convert(capsys, MODEL, "extended", tmp_path / "out.prototxt")
    assert outcome.status == 2
    assert "no layer of this net has number formats" in outcome.message


@needs_shared
@pytest.mark.parametrize("dialect", OTHERS)
def test_a_real_quantized_net_there_and_back(dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prototxt that the original itself wrote: refused by layer, or the same bytes again."""
    model = next(path for path in sorted(SHARED.glob("golden/runs/*/quantized.prototxt")))
    there, back = tmp_path / "there.prototxt", tmp_path / "back.prototxt"
    outcome = convert(capsys, model, dialect, there)
    if outcome.status:
        assert "layer '" in outcome.message
        return
    assert convert(capsys, there, "original", back).status == 0
    assert back.read_bytes() == model.read_bytes()


@needs_shared
def test_fields_of_forks_that_are_no_dialect_here_are_left_alone() -> None:
    """Ranges in a quantization_param of their own (as zhujingyang520's) are no formats of these dialects."""
    document = read_prototxt(SHARED / "prototxt_corpus" / "zhujingyang520__example__quantized_caffenet.prototxt")
    assert detect(document) == "extended"
    assert plan_of(build_net(document)).layers == {}
