"""Target hardware on nets written for it: every operation, formats side by side, values that are rounded in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.weights import LayerWeights, write_caffemodel
from tests.cli.runner import ristretto
from tests.export.reader import Folder

Capture = pytest.CaptureFixture[str]
Blobs = Mapping[str, Sequence[tuple[int, ...]]]

INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 9 dim: 9 } } }'


def formats(inside: str, outside: str, params: str = "6,5", more: str = "") -> str:
    """A quantization_param: input, output and weights as "bw,fl", with a u in front for no sign."""
    fields = []
    for part, text in (("layer_in", inside), ("layer_out", outside), ("params", params)):
        if text:
            bw, fl = text.lstrip("u").split(",")
            fields += [f"bw_{part}: {bw} fl_{part}: {fl}"] + ([f"unsigned_{part}: true"] if text[0] == "u" else [])
    return f"quantization_param {{ {' '.join(fields)} {more} }}"


def layer(name: str, kind: str, bottoms: str, rest: str = "", tops: str = "") -> str:
    ends = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in (tops or name).split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {rest} }}'


def conv(name: str, bottom: str, quantized: str, window: str = "kernel_size: 3 pad: 1", outputs: int = 4) -> str:
    rest = f"convolution_param {{ num_output: {outputs} {window} }} {quantized}"
    return layer(name, "ConvolutionRistretto", bottom, rest)


def run_both(
    capsys: Capture, tmp_path: Path, layers: list[str], blobs: Blobs, images: int = 2
) -> tuple[Folder, dict[str, np.ndarray], str]:
    """Export a net with random weights; the folder, what a run gives of all blobs, and the warnings."""
    rng = np.random.default_rng(len(layers))
    own = [
        LayerWeights(name, "", tuple(rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes))
        for name, shapes in blobs.items()
    ]
    write_caffemodel(tmp_path / "net.caffemodel", "net", own)
    (tmp_path / "net.prototxt").write_text("\n".join(['name: "net"', INPUT, *layers]))
    np.savez(tmp_path / "in.npz", data=rng.uniform(-3, 3, (images, 4, 9, 9)).astype(np.float32))
    net = ("--model", tmp_path / "net.prototxt", "--weights", tmp_path / "net.caffemodel")
    given = (*net, "--inputs", tmp_path / "in.npz")
    hardware = ("--target", "hardware", "--output", tmp_path / "hw", "--images", images)
    outcome = ristretto(capsys, "export", *given, *hardware)
    assert outcome.status == 0, outcome.err
    warnings = outcome.err
    run = ("--arithmetic", "integer", "--blobs", "all", "--outputs", tmp_path / "run.npz")
    outcome = ristretto(capsys, "run", *given, *run)
    assert outcome.status == 0, outcome.err
    return Folder(tmp_path / "hw"), dict(np.load(tmp_path / "run.npz")), warnings


def check(folder: Folder, seen: dict[str, np.ndarray], but: tuple[str, ...] = ()) -> None:
    """The folder computes its own vectors, and these are what the run has, in all blobs but some."""
    for name, codes in folder.compute().items():
        np.testing.assert_array_equal(codes, folder.vector(name), err_msg=name)
    compared = 0
    for name, value in folder.manifest["values"].items():
        if name in seen and name not in but:
            scale = 1.0 if "float" in value else 2.0 ** -value["fl"]
            np.testing.assert_array_equal(folder.vector(name) * scale, seen[name], err_msg=name)
            compared += 1
    assert compared


def ops(folder: Folder) -> dict[str, str]:
    return {entry["name"]: entry["op"] for entry in folder.manifest["layers"]}


def test_windows_of_all_kinds(capsys: Capture, tmp_path: Path) -> None:
    wide = formats("8,5", "8,4")
    layers = [
        conv("group", "data", wide, "kernel_size: 3 group: 2 stride: 2"),
        conv(
            "dilated", "data", formats("8,5", "u6,3"), "kernel_size: 3 dilation: 2 pad_h: 1 pad_w: 2 bias_term: false"
        ),
        conv("tall", "dilated", formats("u6,3", "9,12", "4,-1"), "kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1"),
        layer(
            "up",
            "DeconvolutionRistretto",
            "group",
            "convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 } " + formats("8,4", "8,4"),
        ),
        conv("depth", "up", formats("8,4", "8,3", "", "bw_params: 5 fl_params_channel: [4, 5, 6, 3, 4, 9]"), outputs=6),
        layer(
            "up_by_channel",
            "DeconvolutionRistretto",
            "group",
            "convolution_param { num_output: 3 kernel_size: 2 stride: 2 } "
            + formats("8,4", "7,4", "", "bw_params: 5 fl_params_channel: [4, 5, 7, 4]"),
        ),
    ]
    blobs: Blobs = {
        "group": [(4, 2, 3, 3), (4,)],
        "dilated": [(4, 4, 3, 3)],
        "tall": [(4, 4, 3, 1), (4,)],
        "up": [(4, 3, 3, 3), (6,)],
        "depth": [(6, 6, 3, 3), (6,)],
        "up_by_channel": [(4, 3, 2, 2), (3,)],
    }
    folder, seen, _ = run_both(capsys, tmp_path, layers, blobs)
    check(folder, seen, but=("data",))
    found = {entry["name"]: entry for entry in folder.manifest["layers"]}
    assert len(found["depth"]["shift"]) == 6
    assert len(found["up_by_channel"]["shift"]) == 1
    assert found["up"]["weights"]["layout"] == "IOHW"
    assert found["tall"]["accumulator"]["fl"] == [2]
    assert found["tall"]["shift"] == [-10]


def test_inner_products(capsys: Capture, tmp_path: Path) -> None:
    def fc(name: str, bottom: str, fields: str, quantized: str) -> str:
        return layer(name, "FcRistretto", bottom, f"inner_product_param {{ num_output: 5 {fields} }} {quantized}")

    layers = [
        fc("plain", "data", "", formats("8,5", "8,2")),
        fc(
            "turned",
            "plain",
            "transpose: true",
            formats("8,2", "u8,1", "", "bw_params: 4 fl_params_channel: [1,2,3,4,5]"),
        ),
        fc("rows", "data", "axis: 3 bias_term: false", formats("6,3", "8,4")),
        fc("powers", "rows", "axis: 2", formats("8,4", "8,3", "", "precision: INTEGER_POWER_OF_2_WEIGHTS exp_min: -6")),
    ]
    blobs: Blobs = {
        "plain": [(5, 324), (5,)],
        "turned": [(5, 5), (5,)],
        "rows": [(5, 9)],
        "powers": [(5, 45), (5,)],
    }
    folder, seen, _ = run_both(capsys, tmp_path, layers, blobs)
    check(folder, seen, but=("data",))
    found = {entry["name"]: entry for entry in folder.manifest["layers"]}
    assert found["turned"]["weights"]["layout"] == "OI"
    assert "exponents" in found["powers"]


def test_layers_without_weights(capsys: Capture, tmp_path: Path) -> None:
    out = formats("", "7,3", "")
    layers = [
        conv("a", "data", formats("8,5", "8,4")),
        conv("b", "data", formats("8,5", "8,6")),
        layer("relu", "ReLU", "a"),
        layer("six", "ReLU6", "a"),
        layer("clip", "Clip", "a", "clip_param { min: -0.5 max: 2.25 }"),
        layer("max", "Pooling", "a", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }"),
        layer("average", "Pooling", "a", f"pooling_param {{ pool: AVE kernel_size: 4 stride: 2 pad: 1 }} {out}"),
        layer("sum", "Eltwise", "a b"),
        layer("halves", "Eltwise", "a b", "eltwise_param { operation: SUM coeff: 0.5 coeff: -3 } " + out),
        layer("larger", "Eltwise", "a b", "eltwise_param { operation: MAX }"),
        layer("product", "Eltwise", "a b", "eltwise_param { operation: PROD } " + out),
        layer("narrow", "Eltwise", "a b", formats("5,3", "6,2", "")),
        layer("joined", "Concat", "a b sum"),
        layer("shuffled", "ShuffleChannel", "joined", "shuffle_channel_param { group: 3 }"),
        layer("parts", "Slice", "shuffled", "slice_param { slice_point: 5 }", "part1 part2"),
        layer("turned", "Permute", "part1", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        layer("flat", "Flatten", "part2"),
        layer("shaped", "Reshape", "flat", "reshape_param { shape { dim: 0 dim: 7 dim: -1 } }"),
        layer("dropped", "Dropout", "shaped"),
    ]
    folder, seen, _ = run_both(capsys, tmp_path, layers, {"a": [(4, 4, 3, 3), (4,)], "b": [(4, 4, 3, 3), (4,)]})
    check(folder, seen, but=("data",))
    assert "float" not in ops(folder).values()
    average = next(entry for entry in folder.manifest["layers"] if entry["name"] == "average")
    assert len({count for row in average["divisor"] for count in row}) > 1


def test_values_rounded_in_place(capsys: Capture, tmp_path: Path) -> None:
    """A layer rounds its bottom where it lies: what reads it later, or its memory, reads it rounded."""
    layers = [
        conv("wide", "data", formats("8,5", "12,8")),
        layer("split", "Split", "wide", "", "first second"),
        layer("before", "ReLU", "second"),
        conv("rounds", "first", formats("5,2", "8,4")),
        layer("after", "ReLU", "second"),
        layer("both", "Eltwise", "before after"),
    ]
    folder, seen, _ = run_both(capsys, tmp_path, layers, {"wide": [(4, 4, 3, 3), (4,)], "rounds": [(4, 4, 3, 3), (4,)]})
    check(folder, seen, but=("data", "wide", "first", "second"))
    assert not np.array_equal(seen["before"], seen["after"])
    named = ops(folder)
    assert named["first>rounds"] == named["second>rounds"] == "requantize"
    assert "wide>rounds" not in named
    # A run shows a blob as it is in the end, the folder as its layer made it.
    fl = folder.manifest["values"]["second>rounds"]["fl"]
    np.testing.assert_array_equal(folder.vector("second>rounds") * 2.0**-fl, seen["second"])


def test_float_layers_are_named(capsys: Capture, tmp_path: Path) -> None:
    layers = [
        conv("a", "data", formats("8,5", "8,4")),
        layer("norm", "LRN", "a"),
        layer("squashed", "Sigmoid", "norm", formats("", "u8,8", "")),
        layer("scaled", "Scale", "squashed", "scale_param { bias_term: true }"),
        conv("b", "scaled", formats("8,5", "8,4")),
        layer("prob", "Softmax", "b"),
    ]
    blobs: Blobs = {"a": [(4, 4, 3, 3), (4,)], "scaled": [(4,), (4,)], "b": [(4, 4, 3, 3), (4,)]}
    folder, seen, warnings = run_both(capsys, tmp_path, layers, blobs)
    check(folder, seen, but=("data", "scaled"))
    found = {entry["name"]: entry for entry in folder.manifest["layers"]}
    assert {name for name, entry in found.items() if entry["op"] == "float"} == {"norm", "squashed", "scaled", "prob"}
    assert found["squashed"]["max"] == 255
    assert folder.manifest["values"]["squashed"]["bw"] == 8
    assert folder.array(found["scaled"]["blob0"]["files"]).shape == (4,)
    assert "integers are made again" in warnings
    assert "scaled (Scale)" in warnings
    assert "prob" not in warnings


def test_average_stays_float_where_float32_rounds_it(capsys: Capture, tmp_path: Path) -> None:
    """Sums of 24-bit values do not fit float32: the images show it, and the layer is told as float."""
    pooled = layer("pool", "Pooling", "a", "pooling_param { pool: AVE kernel_size: 3 }")
    for bits, op in ((24, "float"), (8, "average_pool")):
        inside, outside = f"{bits},{bits - 3}", f"{bits},{bits - 4}"
        place = tmp_path / str(bits)
        place.mkdir()
        layers = [conv("a", "data", formats(inside, outside)), pooled, conv("b", "pool", formats(outside, outside))]
        blobs: Blobs = {"a": [(4, 4, 3, 3), (4,)], "b": [(4, 4, 3, 3), (4,)]}
        folder, seen, _ = run_both(capsys, place, layers, blobs, images=8)
        check(folder, seen, but=("data", "pool"))
        assert ops(folder)["pool"] == op
