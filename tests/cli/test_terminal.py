"""What a command says, where and in which form: --quiet, --verbose, --log-format, glog's flags, colours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ristretto.cli.gflags import SWITCHES, WITH_VALUE, GlogFlags, take_glog_flags
from ristretto.cli.main import _COMMANDS, cli
from ristretto.errors import UsageError
from tests.cli.runner import MODELS, Outcome, ristretto
from tests.cli.terminals import COLOUR, ESCAPE, in_terminal

Capture = pytest.CaptureFixture[str]
LENET = MODELS / "digits_lenet"
NET = ("--model", LENET / "train_val.prototxt", "--weights", LENET / "digits_lenet.caffemodel")
ROOT = ("--data-root", MODELS)
GLOG = re.compile(r"[IW]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ (quantization\.cpp|quantize\.py):\d+\] ")
FIXED = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)


def quantize(capsys: Capture, folder: Path, *more: object) -> Outcome:
    job = ("--model_quantized", folder / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", "--iterations", 2)
    outcome = ristretto(capsys, "quantize", *NET, *ROOT, *job, *FIXED, *more)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("\n") == 1
    return outcome


def messages(outcome: Outcome) -> list[str]:
    return [GLOG.sub("", line) for line in outcome.err.splitlines()]


def test_the_log_is_glogs_unless_asked_otherwise(capsys: Capture, tmp_path: Path) -> None:
    outcome = quantize(capsys, tmp_path)
    assert all(GLOG.match(line) for line in outcome.err.splitlines())
    assert messages(quantize(capsys, tmp_path, "--log-format", "glog")) == messages(outcome)


def test_quiet_leaves_warnings_and_the_result(capsys: Capture, tmp_path: Path) -> None:
    loud = quantize(capsys, tmp_path, "--iterations", 13)
    quiet = quantize(capsys, tmp_path, "--iterations", 13, "--quiet")
    warnings = [line for line in loud.err.splitlines() if line.startswith("W")]
    assert len(warnings) == len(quiet.err.splitlines()) > 0
    assert messages(quiet) == [GLOG.sub("", line) for line in warnings]
    assert quiet.out == loud.out


def test_verbose_adds_to_the_log_and_changes_nothing(capsys: Capture, tmp_path: Path) -> None:
    usual, verbose = messages(quantize(capsys, tmp_path)), messages(quantize(capsys, tmp_path, "--verbose"))
    rest = iter(verbose)
    assert all(line in rest for line in usual)
    for sign in ("read ", "weights: 13962 numbers in 4 layers", "data of phase TEST", "kernels", "pass baseline: 100"):
        assert any(sign in line for line in verbose), sign
    cache = next(line for line in verbose if line.startswith("cache: "))
    entries, hits, misses = map(int, re.findall(r"(\d+) (?:entries|hits|misses)", cache))
    assert entries == misses
    assert hits > 0
    assert any(line.startswith(f"wrote {tmp_path / 'q.prototxt'}: ") for line in verbose)
    assert messages(quantize(capsys, tmp_path)) == usual  # it ends with its command


def test_plain_lines_have_no_prefix(capsys: Capture, tmp_path: Path) -> None:
    lines = quantize(capsys, tmp_path, "--log-format", "plain", "--iterations", 13).err.splitlines()
    assert not any(GLOG.match(line) or "Batch" in line for line in lines)
    assert lines[0] == "on the CPU"
    assert lines[1].startswith("baseline: accuracy 0.98")
    assert any(line.startswith("warning: 650 images were asked for") for line in lines)
    assert re.fullmatch(r"CONV weights +8 bit, as asked", next(line for line in lines if line.startswith("CONV")))
    assert lines[-1].startswith("the margin of 2 points is held")


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_takes_the_flags(capsys: Capture, command: str) -> None:
    text = ristretto(capsys, command, "--help").out
    assert all(text.count(f"\n  {flag} ") == 1 for flag in ("--quiet", "--verbose", "--log-format"))


def test_flags_may_stand_before_the_command(capsys: Capture, tmp_path: Path) -> None:
    test = ("test", *NET, *ROOT, "--iterations", 1)
    assert ristretto(capsys, "--quiet", *test).err == ""
    assert ristretto(capsys, "--log-format", "plain", *test).err.startswith("on the CPU\n")
    assert ristretto(capsys, *test).err.count("\n") == 7
    outcome = ristretto(capsys, "--quiet", *test, "--verbose")
    assert (outcome.status, outcome.err) == (
        2,
        "ristretto: --quiet and --verbose exclude each other; give one of the two\n",
    )


def test_glogs_flags(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    test = ("test", *NET, *ROOT, "--iterations", 1)
    usual = ristretto(capsys, *test)
    for flags in (["-logtostderr"], ["--alsologtostderr=1", "--log_dir=x"], ["--log_dir", "x"], ["--nologtostderr"]):
        outcome = ristretto(capsys, *flags, *test, *flags)
        assert (outcome.status, outcome.out) == (0, usual.out)
        assert messages(outcome) == messages(usual)
    assert ristretto(capsys, *test, "-minloglevel=1").err == ""
    assert ristretto(capsys, *test, "--minloglevel", 2).err == ""
    assert "pass test: 50 images" in ristretto(capsys, *test, "-v=1").err
    assert ristretto(capsys, *test, "--nolog_prefix").err.startswith("on the CPU\n")
    monkeypatch.setenv("GLOG_minloglevel", "1")
    assert ristretto(capsys, *test).err == ""
    assert messages(ristretto(capsys, *test, "--minloglevel=0")) == messages(usual)


def test_glogs_flags_among_other_words() -> None:
    words, flags = take_glog_flags(["test", "--v", "2", "--model", "m", "-minloglevel=3", "--", "--v=1"], {})
    assert words == ["test", "--model", "m", "--", "--v=1"]
    assert flags == GlogFlags(minloglevel=3, v=2)
    assert take_glog_flags(["-vmodule=a=2"], {"GLOG_v": "1", "GLOG_minloglevel": "x"}) == ([], GlogFlags(v=1))
    assert take_glog_flags(["--log-format", "glog"], {})[0] == ["--log-format", "glog"]
    for word, text in {"--v": "--v needs a value", "--minloglevel=x": "it is a whole number"}.items():
        with pytest.raises(UsageError, match=text):
            take_glog_flags([word], {})
    with pytest.raises(UsageError, match="it is true or false"):
        take_glog_flags(["--logtostderr=perhaps"], {})


@pytest.mark.parametrize("command", _COMMANDS)
def test_no_flag_of_a_command_is_taken_for_glogs(command: str) -> None:
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None
    ours = {option.lstrip("-").replace("-", "_") for parameter in found.params for option in parameter.opts}
    assert not ours & {*SWITCHES, *WITH_VALUE, *(f"no{name}" for name in SWITCHES)}


def test_choices_in_capital_and_small_letters(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "o.npz"
    assert ristretto(capsys, "run", *NET, *ROOT, "--outputs", out, "--phase", "train").status == 0
    outcome = ristretto(capsys, "test", *NET, *ROOT, "--iterations", 1, "--rounding", "HALF-AWAY")
    assert outcome.status == 0
    assert quantize(capsys, tmp_path, "--preset", "Original", "--calibration_phase", "test").status == 0


def test_all_that_is_logged_is_in_the_report(capsys: Capture, tmp_path: Path) -> None:
    """Every number of the log is found in the JSON, to the six digits of the log."""
    report = tmp_path / "r.json"
    job = ("--model_quantized", tmp_path / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", "--iterations", 2)
    outcome = ristretto(capsys, "quantize", *NET, *ROOT, *job, "--report", report, "--error_margin", 0)
    data = json.loads(report.read_text())
    passes = data["passes"]
    assert [each["purpose"] for each in passes][:3] == ["baseline", "calibration", "conv 16 bit"]
    batches = iter(
        f"Batch {number}, {blob} = {values[number]:g}"
        for each in passes
        for number in range(each["batches"])
        for blob, values in each["by_batch"].items()
    )
    logged = [line for line in messages(outcome) if line.startswith("Batch ")]
    assert logged == list(batches)
    losses = [line for line in messages(outcome) if line.startswith("Loss: ")]
    assert losses == [f"Loss: {each['loss']:g}" for each in passes]
    warned = [GLOG.sub("", line) for line in outcome.err.splitlines() if line.startswith("W")]
    assert warned == data["warnings"]
    assert data["device"] == {"asked": "", "gpu": None, "reason": ""}
    for each in data["ladders"].values():
        assert all(f"{trial['bw']}bit: \t{trial['score']:g}" in outcome.err for trial in each["trials"])


def test_folding_and_a_missing_gpu_are_in_the_report(capsys: Capture, tmp_path: Path) -> None:
    resnet = MODELS / "digits_resnet"
    net = ("--model", resnet / "train_val.prototxt", "--weights", resnet / "digits_resnet.caffemodel")
    outputs = ("--model_quantized", tmp_path / "q.prototxt", "--weights_quantized", tmp_path / "q.caffemodel")
    job = ("--trimming_mode", "dynamic_fixed_point", "--iterations", 1, "--equalize", "--weight_rounding", "nearest")
    report = tmp_path / "r.json"
    outcome = ristretto(capsys, "quantize", *net, *ROOT, *outputs, *job, *FIXED, "--report", report)
    assert outcome.status == 0, outcome.err
    data = json.loads(report.read_text())
    for into, layers in data["folded"]["into"].items():
        assert f"Folded {', '.join(layers)} into {into}." in outcome.err
    scaled = [pair["channels"] for pair in data["equalized"] if pair["channels"]]
    assert f"Equalized {sum(scaled)} channels of {len(scaled)} layers." in outcome.err
    assert data["folded"]["into"]


def test_the_report_of_a_test_has_its_batches(capsys: Capture, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    outcome = ristretto(capsys, "test", *NET, *ROOT, "--iterations", 3, "--report", report)
    (only,) = json.loads(report.read_text())["passes"]
    assert [f"Batch {n}, loss = {value:g}" for n, value in enumerate(only["by_batch"]["loss"])] == [
        line for line in messages(outcome) if ", loss = " in line
    ]
    assert only["loss_weights"] == {"loss": 1.0}


def test_a_terminal_shows_a_table_in_colours(tmp_path: Path) -> None:
    status, text = in_terminal(tmp_path, "demo", "--output", tmp_path)
    assert status == 0
    assert COLOUR.search(text)
    plain = COLOUR.sub("", text)
    assert re.search(r"│ CONV weights │ \d bit +│ +0\.98", plain)
    assert re.search(r"│ all together │ +│ 0\.9\d+ │ +\d\.\d\d │", plain)
    assert "quantization.cpp:303] Please fine-tune." in plain  # the log is there all the same


def test_no_colours_where_they_are_not_wanted(tmp_path: Path) -> None:
    mistake = ("run", "--model", "gone", "--outputs", "x.npz")
    assert "\x1b[31m" in in_terminal(tmp_path, *mistake)[1]
    assert ESCAPE not in in_terminal(tmp_path, *mistake, NO_COLOR="1")[1]
    assert ESCAPE not in in_terminal(tmp_path, *mistake, TERM="dumb")[1]
    assert ESCAPE not in in_terminal(tmp_path, "test", "--help", NO_COLOR="1")[1]
    demo = ("demo", "--output", tmp_path)
    _, text = in_terminal(tmp_path, *demo, NO_COLOR="1")
    assert "│ all together │" in text
    assert not COLOUR.search(text)
    _, text = in_terminal(tmp_path, *demo, TERM="dumb")
    assert ESCAPE not in text
    assert "│" not in text
    assert "quantization.cpp:303] Please fine-tune." in text
