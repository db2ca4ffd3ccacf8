"""``ristretto export --target hardware``: the folder alone says all of the net, and its vectors are those of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ristretto.numerics.formats import DynamicFixedPoint, PowerOfTwo
from ristretto.numerics.integer import bits_for
from tests.cli.runner import ristretto
from tests.export.nets import MODELS, quantized
from tests.export.reader import Folder

Capture = pytest.CaptureFixture[str]

NETS: dict[str, dict[str, Any]] = {
    "digits_lenet": {},
    "digits_resnet": {},
    "digits_lenet by channel": {"per_channel": True, "bw_conv_params": 4},
    "digits_lenet powers of two": {"trimming_mode": "integer_power_of_2_weights"},
    "digits_resnet other layers": {"other_layers": ("Eltwise", "Pooling"), "bw_activations": 6},
    "digits_resnet not folded": {"fold": False, "weight_rounding": "nearest"},
}


def exported(capsys: Capture, folder: Path, net: str, *flags: object, **options: Any) -> Folder:
    model, weights = quantized(net, **options)
    outcome = ristretto(capsys, *command(model, weights, folder), *flags)
    assert outcome.status == 0, outcome.err
    return Folder(folder)


def command(model: Path, weights: Path, folder: Path) -> tuple[object, ...]:
    net = ("--model", model, "--weights", weights, "--data-root", MODELS)
    return ("export", *net, "--target", "hardware", "--output", folder)


@pytest.mark.parametrize("name", NETS)
def test_folder_alone_gives_its_vectors(capsys: Capture, tmp_path: Path, name: str) -> None:
    net, _, _ = name.partition(" ")
    folder = exported(capsys, tmp_path / "hw", net, "--images", 3, **NETS[name])
    computed = folder.compute()
    assert set(computed) == set(folder.manifest["values"])
    for value, codes in computed.items():
        np.testing.assert_array_equal(codes, folder.vector(value), err_msg=value)


@pytest.mark.parametrize("net", ["digits_lenet", "digits_resnet"])
@pytest.mark.parametrize("flags", [(), ("--accumulator_bits", 12), ("--accumulator_bits", 11, "--overflow", "wrap")])
@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
def test_vectors_are_those_of_a_run(
    capsys: Capture, tmp_path: Path, net: str, flags: tuple[object, ...], rounding: str
) -> None:
    flags = (*flags, "--rounding", rounding)
    folder = exported(capsys, tmp_path / "hw", net, "--images", 4, *flags)
    model, weights = quantized(net)
    given = ("--model", model, "--weights", weights, "--data-root", MODELS, "--arithmetic", "integer", *flags)
    outcome = ristretto(capsys, "run", *given, "--blobs", "all", "--outputs", tmp_path / "run.npz")
    assert outcome.status == 0, outcome.err
    seen = np.load(tmp_path / "run.npz")
    compared = 0
    for name, value in folder.manifest["values"].items():
        if name not in seen or "float" in value or seen[name].shape[1:] != tuple(value["shape"][1:]):
            continue
        codes = seen[name][:4] * 2.0 ** value["fl"]
        if name == "pool5":  # a run keeps it in float until fc10 reads it
            codes = DynamicFixedPoint(value["bw"], value["fl"], value["signed"]).encode(seen[name][:4])
            if rounding != "half_even":
                continue
        np.testing.assert_array_equal(codes, folder.vector(name), err_msg=name)
        compared += 1
    assert compared >= 6
    for value, codes in folder.compute().items():
        np.testing.assert_array_equal(codes, folder.vector(value), err_msg=value)


def test_small_accumulator_changes_the_vectors(capsys: Capture, tmp_path: Path) -> None:
    wide = exported(capsys, tmp_path / "wide", "digits_lenet")
    model, weights = quantized("digits_lenet")
    outcome = ristretto(capsys, *command(model, weights, tmp_path / "narrow"), "--accumulator_bits", 12)
    assert "sums may need" in outcome.err
    assert "conv2" in outcome.err
    narrow = Folder(tmp_path / "narrow")
    assert not np.array_equal(wide.vector("ip2"), narrow.vector("ip2"))


def test_net_with_batch_norm_is_told_to_fold(capsys: Capture, tmp_path: Path) -> None:
    model, weights = quantized("digits_resnet", fold=False, weight_rounding="nearest")
    outcome = ristretto(capsys, *command(model, weights, tmp_path / "hw"))
    assert outcome.status == 0
    assert "integers are made again" in outcome.err
    assert "ristretto fold" in outcome.err
    assert "BatchNorm" in outcome.out


def test_manifest_states_formats_and_widths(capsys: Capture, tmp_path: Path) -> None:
    folder = exported(capsys, tmp_path / "hw", "digits_lenet")
    layers = {layer["name"]: layer for layer in folder.manifest["layers"]}
    conv = layers["conv2"]
    assert (conv["type"], conv["op"], conv["kernel"], conv["group"]) == ("ConvolutionRistretto", "conv", [3, 3], 1)
    assert conv["weights"]["layout"] == "OIHW"
    assert conv["weights"]["shape"] == [32, 16, 3, 3]
    weights = folder.array(conv["weights"]["files"]).astype(np.int64)
    bias = folder.array(conv["bias"]["files"]).astype(np.int64)
    largest = max(-conv_end(conv["input"])[0], conv_end(conv["input"])[1])
    bound = int((np.abs(weights).reshape(32, -1).sum(axis=1) * largest + np.abs(bias)).max())
    assert conv["accumulator"]["bits_needed"] == bits_for(bound)
    assert conv["shift"] == [conv["input"]["fl"] + conv["weights"]["fl"][0] - conv["output"]["fl"]]
    stored = folder.array(conv["bias_stored"]["files"]).astype(np.int64)
    np.testing.assert_array_equal(stored << conv["bias_stored"]["shift"][0], bias)
    floats = {layer["name"] for layer in folder.manifest["layers"] if layer["op"] == "float"}
    assert floats == {"accuracy", "loss"}
    assert "SoftmaxWithLoss" in layers["loss"]["prototxt"]


def conv_end(fmt: dict[str, Any]) -> tuple[int, int]:
    made = DynamicFixedPoint(fmt["bw"], fmt["fl"], fmt["signed"])
    return made.min_code, made.max_code


def test_text_holds_the_same_integers(capsys: Capture, tmp_path: Path) -> None:
    folder = exported(capsys, tmp_path / "hw", "digits_lenet")
    values = [(value["files"], value["bw"]) for value in folder.manifest["values"].values() if "float" not in value]
    roles = ("weights", "bias", "bias_stored")
    owned = [layer[role] for layer in folder.manifest["layers"] for role in roles if role in layer]
    assert len(values) > 8
    assert len(owned) == 12
    for files, bw in [*values, *((tensor["files"], tensor["bw"]) for tensor in owned)]:
        words = folder.array(files, "hex")
        np.testing.assert_array_equal(words, folder.array(files).astype(np.int64).ravel() & ((1 << bw) - 1))


def test_exponents_of_powers_of_two(capsys: Capture, tmp_path: Path) -> None:
    folder = exported(capsys, tmp_path / "hw", "digits_lenet", **NETS["digits_lenet powers of two"])
    layer = next(layer for layer in folder.manifest["layers"] if layer["name"] == "conv1")
    facts = layer["exponents"]
    fmt = PowerOfTwo(facts["exp_min"], facts["exp_max"], bool(facts["index_of_exp_min"]))
    values = fmt.decode(folder.array(facts["files"]).astype(np.int64))
    codes = folder.array(layer["weights"]["files"]).astype(np.int64)
    np.testing.assert_array_equal(np.ldexp(codes, -layer["weights"]["fl"][0]), values)
    assert facts["bw"] == fmt.bw


def test_layers_and_formats_are_chosen(capsys: Capture, tmp_path: Path) -> None:
    folder = exported(capsys, tmp_path / "hw", "digits_lenet", "--layers", "conv1,ip1", "--formats", "coe")
    layers = {layer["name"]: layer for layer in folder.manifest["layers"]}
    assert set(layers["conv1"]["weights"]["files"]) == {"npy", "coe"}
    assert layers["conv2"]["weights"]["files"] == {}
    assert layers["conv2"]["weights"]["bw"] == 8
    values = folder.manifest["values"]
    assert set(values["data"]["files"]) == set(values["data>conv1"]["files"]) == {"npy"}
    assert values["pool2"]["files"]
    assert not values["pool1"]["files"]
    written = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {".npy", ".coe", ".json"}


def test_export_twice_is_the_same(capsys: Capture, tmp_path: Path) -> None:
    model, weights = quantized("digits_lenet")
    given = command(model, weights, tmp_path / "hw")
    assert ristretto(capsys, *given).status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "hw").rglob("*") if path.is_file()}
    refused = ristretto(capsys, *given)
    assert refused.status == 2
    assert "not empty" in refused.message
    assert "--force" in refused.message
    assert ristretto(capsys, *given, "--force").status == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "hw").rglob("*") if path.is_file()}
    assert [path.name for path in tmp_path.iterdir()] == ["hw"]


def test_force_replaces_exports_alone(capsys: Capture, tmp_path: Path) -> None:
    model, weights = quantized("digits_lenet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    outcome = ristretto(capsys, *command(model, weights, tmp_path / "mine"), "--force")
    assert outcome.status == 2
    assert "no older export" in outcome.message
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_npz_in_place_of_data(capsys: Capture, tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((5, 1, 16, 16), np.float32)
    np.savez(tmp_path / "in.npz", data=images, label=np.zeros(5, np.float32))
    folder = exported(capsys, tmp_path / "hw", "digits_lenet", "--inputs", tmp_path / "in.npz", "--images", 2)
    np.testing.assert_array_equal(folder.vector("data"), images[:2])
    too_many = ristretto(
        capsys, *command(*quantized("digits_lenet"), tmp_path / "b"), "--inputs", tmp_path / "in.npz", "--images", 6
    )
    assert too_many.status == 2
    assert "the source holds 5" in too_many.message


def edited(tmp_path: Path, old: str, new: str) -> tuple[Path, Path]:
    model, weights = quantized("digits_lenet")
    text = model.read_text()
    assert old in text
    (tmp_path / "edited.prototxt").write_text(text.replace(old, new, 1))
    return tmp_path / "edited.prototxt", weights


MISTAKES = {
    "float input": ("unsigned_layer_in: true", "float_layer_in: true", ["conv2", "its input is float"]),
    "minifloat": ("quantization_param {", "quantization_param { precision: MINIFLOAT", ["conv1", "floating point"]),
    "stochastic": ("quantization_param {", "quantization_param { rounding_scheme: STOCHASTIC", ["conv1", "draws"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_layer_that_cannot_be_exported(capsys: Capture, tmp_path: Path, name: str) -> None:
    old, new, words = MISTAKES[name]
    outcome = ristretto(capsys, *command(*edited(tmp_path, old, new), tmp_path / "hw"))
    assert outcome.status == 2
    assert all(word in outcome.message for word in words), outcome.message
    assert "--arithmetic" not in outcome.message
    assert [path.name for path in tmp_path.iterdir()] == ["edited.prototxt"]


def test_mistakes_of_the_command(capsys: Capture, tmp_path: Path) -> None:
    model, weights = quantized("digits_lenet")
    whole = command(model, weights, tmp_path / "hw")
    floats = (MODELS / "digits_lenet" / "train_val.prototxt", MODELS / "digits_lenet" / "digits_lenet.caffemodel")
    for words, expected in [
        (command(*floats, tmp_path / "hw"), "quantize it first"),
        ((*whole, "--layers", "conv"), "is 'conv2' meant?"),
        ((*whole, "--formats", "bin"), "choose of npy, hex, coe, c"),
        ((*whole, "--batch", "2"), "has no option 'batch'"),
        (("export", "--model", model, "--target", "hardware", "--output", tmp_path / "hw"), "no weights are given"),
        (command(model, weights, tmp_path / "no" / "hw"), "the folder does not exist"),
        (command(model, weights, MODELS / "README.md"), "this is a file"),
    ]:
        outcome = ristretto(capsys, *words)
        assert outcome.status == 2, outcome.err
        assert expected in outcome.message
    assert not (tmp_path / "hw").exists()


def test_average_that_float32_may_round_is_told(capsys: Capture, tmp_path: Path) -> None:
    folder = exported(capsys, tmp_path / "hw", "digits_resnet")
    pool = next(layer for layer in folder.manifest["layers"] if layer["name"] == "pool5")
    residue = folder.manifest["values"][pool["inputs"][0]]
    assert pool["op"] == "average_pool"
    assert pool["divisor"] == 64
    assert pool["proved"] == (64 * max(-residue["low"], residue["high"]) <= 1 << 24)


def test_manifest_is_plain_json(capsys: Capture, tmp_path: Path) -> None:
    exported(capsys, tmp_path / "hw", "digits_lenet")
    text = (tmp_path / "hw" / "net.json").read_text()
    assert text.isascii()
    assert json.loads(text)["images"] == 1
    files = {entry["file"] for entry in _entries(json.loads(text))}
    found = {str(path.relative_to(tmp_path / "hw")) for path in (tmp_path / "hw").rglob("*") if path.is_file()}
    assert files == found - {"net.json"}


def _entries(node: Any) -> list[dict[str, str]]:
    if isinstance(node, dict):
        return [node] if "sha256" in node else [entry for part in node.values() for entry in _entries(part)]
    return [entry for part in node for entry in _entries(part)] if isinstance(node, list) else []
