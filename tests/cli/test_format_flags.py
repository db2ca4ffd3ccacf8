"""The flags that say which formats a net gets, through the program, on the nets that come with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ristretto.caffe.net import build_net, read_prototxt
from ristretto.dialects.fields import read_plan
from ristretto.numerics.formats import ChannelFixedPoint, DynamicFixedPoint, Format, Minifloat, PowerOfTwo
from ristretto.numerics.layer_formats import LayerFormats
from tests.cli.runner import MODELS, Outcome, ristretto

Capture = pytest.CaptureFixture[str]
Formats = dict[str, LayerFormats]

WIDTHS = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)


def job(
    capsys: Capture, folder: Path, *flags: object, net: str = "lenet", mode: str = "dynamic_fixed_point"
) -> Outcome:
    model = MODELS / f"digits_{net}"
    return ristretto(
        capsys, "quantize", "--model", model / "train_val.prototxt", "--weights", model / f"digits_{net}.caffemodel",
        "--model_quantized", folder / "q.prototxt", "--trimming_mode", mode, "--data-root", MODELS,
        "--iterations", 2, "--report", folder / "report.json", *flags,
    )  # fmt: skip


def quantized(capsys: Capture, folder: Path, *flags: object, **kind: str) -> tuple[Formats, dict[str, Any], Outcome]:
    """The formats in the quantized prototxt, the report, and what was said; the two agree on the score."""
    outcome = job(capsys, folder, *flags, **kind)
    assert outcome.status == 0, outcome.err
    report = json.loads((folder / "report.json").read_text())
    net = kind.get("net", "lenet")
    again = ristretto(
        capsys, "test", "--model", folder / "q.prototxt", "--weights", MODELS / f"digits_{net}/digits_{net}.caffemodel",
        "--data-root", MODELS, "--iterations", 2,
    )  # fmt: skip
    assert again.status == 0, again.err
    assert f"accuracy: {report['combined']['score']:g}" in again.out
    return dict(read_plan(build_net(read_prototxt(folder / "q.prototxt"))).layers), report, outcome


def fixed(fmt: Format | None) -> DynamicFixedPoint:
    assert isinstance(fmt, DynamicFixedPoint)
    return fmt


def test_static_activations(capsys: Capture, tmp_path: Path) -> None:
    formats, report, outcome = quantized(capsys, tmp_path, "--static", "10.6", *WIDTHS[:4])
    assert {at for layer in formats.values() for at in (layer.input, layer.output)} == {DynamicFixedPoint(16, 6)}
    assert report["ladders"]["activations"] == {"trials": [], "chosen": 16}
    assert "16bit layer activations as asked: not searched." in outcome.err
    assert report["settings"]["options"]["static"] == "10.6"


def test_any_width_and_any_ladder(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--bw_conv_params", 7, "--bw_activations", 11, "--ladder", "12,5")
    formats, report, _ = quantized(capsys, tmp_path, *flags)
    assert (fixed(formats["conv1"].params).bw, fixed(formats["conv1"].input).bw) == (7, 11)
    assert [trial["bw"] for trial in report["ladders"]["fc"]["trials"]] == [12, 5]


def test_only_and_skip(capsys: Capture, tmp_path: Path) -> None:
    formats, report, outcome = quantized(capsys, tmp_path, "--skip", "conv1", "--only", "Convolution:params,in")
    assert set(formats) == {"conv2"}
    assert formats["conv2"].output is None
    assert formats["conv2"].params is not None
    assert set(report["layers"]) == {"conv2"}
    assert "FC weights are not quantized, as asked: not searched." in outcome.err
    assert "The net has no FC" not in outcome.err


def test_weights_alone(capsys: Capture, tmp_path: Path) -> None:
    formats, report, outcome = quantized(capsys, tmp_path, "--only", "*:params")
    assert all(layer.input is None and layer.output is None and layer.params is not None for layer in formats.values())
    assert "activations" not in report["ladders"]
    assert "Activations are not quantized, as asked: not searched." in outcome.err


def test_overrides(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text('{"layers": {"conv1": {"out": {"bw": 13, "fl": 3}}}}')
    formats, _, _ = quantized(capsys, tmp_path, *WIDTHS, "--overrides", file)
    assert formats["conv1"].output == DynamicFixedPoint(13, 3)
    assert fixed(formats["conv1"].input).bw == 8
    file.write_text('{"layers": {"pool1": {"out": {"bw": 13, "fl": 3}}}}')
    outcome = job(capsys, tmp_path, *WIDTHS, "--overrides", file)
    assert outcome.status == 2
    assert "the net has no layer 'pool1' that is quantized" in outcome.message


def test_biases(capsys: Capture, tmp_path: Path) -> None:
    formats, _, _ = quantized(capsys, tmp_path, *WIDTHS)
    layer = formats["conv2"]
    assert fixed(layer.bias) == DynamicFixedPoint(32, fixed(layer.input).fl + fixed(layer.params).fl)
    formats, _, _ = quantized(capsys, tmp_path, *WIDTHS, "--bw_bias", 13)
    assert {fixed(layer.bias).bw for layer in formats.values()} == {13}
    for flags in (("--bw_bias", "params"), ("--preset", "original"), ("--dialect", "original")):
        formats, _, _ = quantized(capsys, tmp_path, *WIDTHS, *flags)
        assert all(layer.bias == layer.params for layer in formats.values())


def test_unsigned_where_nothing_is_negative(capsys: Capture, tmp_path: Path) -> None:
    formats, _, _ = quantized(capsys, tmp_path, *WIDTHS, "--unsigned", net="resnet")
    formats = {name: layer for name, layer in formats.items() if layer.params is not None}
    unsigned = {name for name, layer in formats.items() if not fixed(layer.input).signed}
    # The first layer reads pixels, which the net cannot know to be positive; all others read what a ReLU made.
    assert unsigned == set(formats) - {"conv1"}
    assert all(fixed(layer.output).signed for layer in formats.values())


def test_weights_by_channel(capsys: Capture, tmp_path: Path) -> None:
    formats, _, _ = quantized(capsys, tmp_path, *WIDTHS, "--per_channel", net="resnet")
    points = [layer.params.fls for layer in formats.values() if isinstance(layer.params, ChannelFixedPoint)]
    assert len(points) == len([layer for layer in formats.values() if layer.params is not None])
    assert len(points[0]) == 16
    assert any(len(set(fls)) > 1 for fls in points)


def test_other_layers(capsys: Capture, tmp_path: Path) -> None:
    formats, report, _ = quantized(capsys, tmp_path, *WIDTHS, "--other_layers", "all", net="resnet")
    net = build_net(read_prototxt(tmp_path / "q.prototxt"))
    types = {layer.name: layer.type for layer in net.layers}
    kinds = {types[name] for name in formats}
    assert kinds == {"ConvolutionRistretto", "FcRistretto", "BatchNorm", "Scale", "Eltwise", "Pooling"}
    eltwise = next(name for name in formats if types[name] == "Eltwise")
    assert formats[eltwise].params is None
    assert not formats[eltwise].in_place
    assert fixed(formats[eltwise].output).bw == 8
    assert report["combined"]["score"] > 0.9


def test_sums_are_stored_as_the_next_layers_read_them(capsys: Capture, tmp_path: Path) -> None:
    formats, report, _ = quantized(capsys, tmp_path, *WIDTHS, net="resnet")
    net = build_net(read_prototxt(tmp_path / "q.prototxt"))
    sums = {layer.name: layer.inputs for layer in net.layers if layer.type == "Eltwise"}
    stored = {name: formats[name] for name in sums if name in formats}
    # The last sum goes into an average, from the accumulator.
    assert len(stored) == len(sums) - 1
    assert {(layer.input, layer.params, layer.in_place) for layer in stored.values()} == {(None, None, False)}
    read = {layer.input for layer in formats.values()}
    assert all(layer.output in read and fixed(layer.output).bw == 8 for layer in stored.values())
    assert report["combined"]["score"] > 0.98
    for flags in (("--dialect", "original"), ("--preset", "original"), ("--static", "10.6"), ("--skip", "Eltwise")):
        formats, _, _ = quantized(
            capsys, tmp_path, *(WIDTHS[:4] if "--static" in flags else WIDTHS), *flags, net="resnet"
        )
        assert not sums.keys() & formats.keys()


@pytest.mark.parametrize("rule", ["max", "percentile", "squared_error", "output_error"])
def test_range_rules(capsys: Capture, tmp_path: Path, rule: str) -> None:
    formats, report, _ = quantized(capsys, tmp_path, *WIDTHS, "--range_rule", rule)
    assert report["combined"]["score"] > 0.9
    lengths = {name: fixed(layer.input).il for name, layer in formats.items()}
    longest = {
        name: fixed(layer.input).il
        for name, layer in quantized(capsys, tmp_path, *WIDTHS, "--range_rule", "percentile", "--percentile", 100)[
            0
        ].items()
    }
    assert all(lengths[name] <= longest[name] for name in lengths)


def test_minifloat(capsys: Capture, tmp_path: Path) -> None:
    formats, report, outcome = quantized(capsys, tmp_path, "--error_margin", 1, mode="minifloat")
    ladder = report["ladders"]["minifloat"]
    assert [trial["bw"] for trial in ladder["trials"]] == [16, 8]
    assert set(map(lambda layer: layer.params, formats.values())) == {Minifloat(4, ladder["chosen"] - 5)}
    assert "Minifloat net:" in outcome.err
    assert report["combined"]["score"] == ladder["trials"][-1]["score"]


@pytest.mark.parametrize(
    ("flags", "bits"), [(("--exp_bits", 5, "--mant_bits", 6), (5, 6)), (("--exp_bits", 6, "--ladder", "9"), (6, 2))]
)
def test_minifloat_by_hand(capsys: Capture, tmp_path: Path, flags: tuple[object, ...], bits: tuple[int, int]) -> None:
    formats, _, _ = quantized(capsys, tmp_path, *flags, "--error_margin", 100, mode="minifloat")
    assert {layer.output for layer in formats.values()} == {Minifloat(*bits)}


@pytest.mark.parametrize("name", ["half", "bfloat16", "fp8_e4m3", "fp8_e5m2"])
def test_named_formats(capsys: Capture, tmp_path: Path, name: str) -> None:
    formats, report, _ = quantized(capsys, tmp_path, "--float_format", name, mode="minifloat")
    assert {str(layer.params) for layer in formats.values()} == {name}
    assert abs(report["combined"]["score"] - report["baseline"]["score"]) < 0.05


def test_powers_of_two(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--exp_min", -6, "--exp_max", 0, "--keep_zero")
    formats, report, outcome = quantized(capsys, tmp_path, *flags, mode="integer_power_of_2_weights")
    assert {layer.params for layer in formats.values()} == {PowerOfTwo(-6, 0, keep_zero=True)}
    assert {fixed(layer.input).bw for layer in formats.values()} == {8}
    assert {layer.bias for layer in formats.values()} == {None}
    # Seven exponents and zero, with the sign: four bits.
    assert f"4bit: \t{report['combined']['score']:g}" in outcome.err


def test_ranges_are_measured_once(capsys: Capture, tmp_path: Path) -> None:
    saved = tmp_path / "ranges.json"
    first, _, outcome = quantized(capsys, tmp_path, *WIDTHS, "--save_ranges", saved)
    assert outcome.err.count("Running for 10 iterations.") == 1
    for file in (saved, tmp_path / "kept.json"):
        (tmp_path / "kept.json").write_text((tmp_path / "report.json").read_text())
        again, _, outcome = quantized(capsys, tmp_path, *WIDTHS, "--ranges", file)
        assert again == first
        assert outcome.err.count("Running for") == 2
        assert "Running for 10 iterations." not in outcome.err
    data = json.loads(saved.read_text())
    del data["layers"]["conv2"]
    saved.write_text(json.dumps(data))
    outcome = job(capsys, tmp_path, *WIDTHS, "--ranges", saved)
    assert outcome.status == 2
    assert outcome.message.endswith("the file has no ranges of layer 'conv2'; measure them anew with --save_ranges")


def test_folding_on_the_way(capsys: Capture, tmp_path: Path) -> None:
    folded = tmp_path / "q.caffemodel"
    also = f"{MODELS / 'digits_resnet/deploy.prototxt'}={tmp_path / 'deploy.prototxt'}"
    outcome = job(capsys, tmp_path, *WIDTHS, "--fold", "--weights_quantized", folded, "--also", also, net="resnet")
    assert outcome.status == 0, outcome.err
    assert "Folded bn_conv1, scale_conv1 into conv1." in outcome.err
    for name in ("q.prototxt", "deploy.prototxt"):
        types = {layer.type for layer in build_net(read_prototxt(tmp_path / name)).layers}
        assert not types & {"BatchNorm", "Scale"}
    score = json.loads((tmp_path / "report.json").read_text())["combined"]["score"]
    again = ristretto(
        capsys, "test", "--model", tmp_path / "q.prototxt", "--weights", folded, "--data-root", MODELS,
        "--iterations", 2,
    )  # fmt: skip
    assert f"accuracy: {score:g}" in again.out
    assert score > 0.9


@pytest.mark.parametrize(
    ("flags", "mode", "message"),
    [
        (("--static", "10"), "dynamic_fixed_point", "--static 10: expected IL.FL; such as 10.6: 16 bits"),
        (("--static", "30.9"), "dynamic_fixed_point", "--static 30.9: bw must be in 1..32, got 39"),
        (("--static", "10.6", "--bw_activations", 8), "dynamic_fixed_point", "--static 10.6 has 16 bits, --bw_act"),
        (("--mant_bits", 3), "dynamic_fixed_point", "--mant_bits means nothing with --trimming_mode dynamic_fixed"),
        (("--per_channel",), "minifloat", "--per_channel means nothing with --trimming_mode minifloat"),
        (("--float_format", "half", "--exp_bits", 5), "minifloat", "--float_format names a format, --exp_bits and"),
        (("--other_layers", "ReLU6"), "dynamic_fixed_point", "layers of type 'ReLU6' have no formats; choose from"),
        (("--skip", "conv9"), "dynamic_fixed_point", "no layer to quantize has the name or type 'conv9'; the layers"),
        (("--ladder", "64"), "dynamic_fixed_point", "--ladder needs widths from 1 to 32"),
        (("--ladder", "4,2"), "minifloat", "no width of the ladder leaves room for a mantissa beside 4 exponent bits"),
        (("--unsigned", "--dialect", "original"), "dynamic_fixed_point", "what --unsigned asks for cannot be said"),
        (("--bw_bias", "wide"), "dynamic_fixed_point", "Invalid value for '--bw_bias': 'wide' is neither a width"),
        (("--budget", 4), "dynamic_fixed_point", "--budget means nothing without --search mixed; add it, or leave"),
        (("--cost", "mac_bits"), "dynamic_fixed_point", "--cost means nothing without --search mixed"),
        (("--search", "mixed"), "minifloat", "--search mixed means nothing with --trimming_mode minifloat"),
        (("--search", "mixed", "--min_bits", 9), "dynamic_fixed_point", "--min_bits 9 and --max_bits 8 span no widths"),
        (("--fold",), "dynamic_fixed_point", "--fold changes the weights; say with --weights_quantized where to write"),
        (("--exp_min", 3, "--exp_max", 1), "integer_power_of_2_weights", "exp_min 3 is above exp_max 1; swap the two"),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense(
    capsys: Capture, tmp_path: Path, flags: tuple[object, ...], mode: str, message: str
) -> None:
    outcome = job(capsys, tmp_path, *flags, mode=mode)
    assert outcome.status == 2
    assert message in outcome.message
    assert not (tmp_path / "q.prototxt").exists()


def test_mixed_precision(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--search", "mixed", "--error_margin", 2, "--max_bits", 6, "--iterations", "all")
    outcome = job(capsys, tmp_path, *flags, net="resnet")
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "report.json").read_text())
    plan = read_plan(build_net(read_prototxt(tmp_path / "q.prototxt")))
    formats = {name: layer for name, layer in plan.layers.items() if layer.params is not None}
    widths = {name: fixed(layer.params).bw for name, layer in formats.items()}
    assert len(set(widths.values())) > 1
    assert {fixed(layer.input).bw for layer in formats.values()} == {6}
    path, chosen = report["mixed"]["path"], report["mixed"]["chosen"]
    assert [point["cost"] for point in path] == sorted((point["cost"] for point in path), reverse=True)
    assert path[chosen]["score"] == report["combined"]["score"]
    assert report["combined"]["score"] >= report["baseline"]["score"] - 0.02
    assert path[chosen]["cost"] < 6
    assert f"{path[chosen]['cost']:.2f}: \t{report['combined']['score']:g} (chosen)" in outcome.err


def test_a_budget_is_kept(capsys: Capture, tmp_path: Path) -> None:
    flags = ("--search", "mixed", "--budget", 20, "--cost", "mac_bits", "--min_bits", 3, "--max_bits", 5)
    outcome = job(capsys, tmp_path, *flags)
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert 15 < report["mixed"]["path"][report["mixed"]["chosen"]]["cost"] <= 20
