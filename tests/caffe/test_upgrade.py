"""Old nets in today's form, against the input and expected nets of Caffe's own tests."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from prototxts import SHARED, corpus, needs_shared

from ristretto.caffe.schema import descriptor, message_class
from ristretto.caffe.textproto import parse
from ristretto.caffe.upgrade import (
    needs_upgrade,
    upgrade_batch_norm,
    upgrade_binary,
    upgrade_inputs,
    upgrade_net,
    upgrade_solver,
)
from ristretto.caffe.upgrade_v0 import V1_TYPES, upgrade_v0
from ristretto.caffe.upgrade_v1 import V2_TYPES, upgrade_v1
from ristretto.caffe.view import View
from ristretto.errors import NetError, RistrettoError, WeightsError

RULES = SHARED / "golden" / "net_rules"
LEGACY = SHARED / "models" / "lenet_mnist_legacy"
LEGACY_BINARY = LEGACY / "lenet.v0.caffemodel"


def message(text: str) -> Any:
    return text_format.Parse(text, message_class("NetParameter")())


def case(name: str) -> tuple[str, str]:
    """The input and the expected net of one of Caffe's tests."""
    first, second = ((RULES / f"{name}.{part}.prototxt").read_text() for part in ("input", "expected"))
    return first, second


def upgraded(text: str) -> str:
    return upgrade_net(parse(text, "net.prototxt")).text


@needs_shared
def test_every_v0_parameter() -> None:
    old, expected = case("V0UpgradeTest.TestAllParams")
    assert message(upgrade_v0(parse(old)).text) == message(expected)


@needs_shared
@pytest.mark.parametrize("name", ["TestSimple", "TestTwoTops", "TestImageNet"])
def test_padding_layers_are_folded(name: str) -> None:
    old, expected = case(f"PaddingUpgradeTest.{name}")
    assert "padding" not in expected
    assert message(upgrade_v0(parse(old)).text) == message(upgrade_v0(parse(expected)).text)


@needs_shared
def test_every_v1_parameter() -> None:
    old, expected = case("V1UpgradeTest.TestSimple")
    assert message(upgraded(old)) == message(expected)
    assert needs_upgrade(parse(old))
    assert not needs_upgrade(parse(expected))


@needs_shared
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_legacy_lenet_is_the_modern_one(version: str) -> None:
    old = parse((LEGACY / f"lenet.{version}.prototxt").read_bytes())
    modern = message((SHARED / "models" / "lenet_mnist" / "deploy.prototxt").read_text())
    new = message(upgrade_inputs(upgrade_net(old)).text)
    assert len(new.layer) == len(modern.layer)
    assert list(new.layer[0].input_param.shape[0].dim) == [1, 1, 28, 28]
    for one, other in list(zip(new.layer, modern.layer, strict=True))[1:8]:
        assert (one.name, one.type, one.bottom, one.top) == (other.name, other.type, other.bottom, other.top)
        assert one.pooling_param == other.pooling_param
        for name in ("convolution_param", "inner_product_param"):
            for params in (getattr(one, name), getattr(other, name)):
                params.ClearField("weight_filler")
                params.ClearField("bias_filler")
            assert getattr(one, name) == getattr(other, name)


@needs_shared
def test_every_old_net_of_the_corpus_upgrades_or_says_why() -> None:
    old = [file.path for file in corpus() if file.well_formed and needs_upgrade(parse(file.path.read_bytes()))]
    assert len(old) == 6
    for path in old:
        document = parse(path.read_bytes(), path.name)
        if path.name.startswith("lim0606"):
            with pytest.raises(NetError, match=r":3102:8: .*both 'layer' and 'layers'"):
                upgrade_net(document)
            continue
        new = upgrade_net(document)
        assert not needs_upgrade(new)
        assert upgrade_net(new) is new
        assert [layer.name for layer in message(new.text).layer]
        comments = re.findall(r"#[^\r\n]*", document.text)
        assert re.findall(r"#[^\r\n]*", new.text) == comments


def test_a_modern_net_is_left_alone() -> None:
    document = parse('layer { name: "a" type: "ReLU" }')
    for function in (upgrade_net, upgrade_v0, upgrade_v1, upgrade_inputs, upgrade_batch_norm):
        assert function(document) is document


def test_all_types_are_translated() -> None:
    enum = descriptor("V1LayerParameter").enum_types_by_name["LayerType"]
    assert set(V2_TYPES) == set(enum.values_by_name)
    assert set(V1_TYPES.values()) <= set(V2_TYPES)


@needs_shared
def test_types_are_spelled_as_real_nets_spell_them() -> None:
    nets = (path.read_bytes() for path in SHARED.rglob("*.prototxt"))
    real = {name.decode() for data in nets for name in re.findall(rb"""\btype\s*:\s*["'](\w+)["']""", data)}
    spelled = {name for name in real if name.lower() in {known.lower() for known in V2_TYPES.values()}}
    modern = spelled - set(V1_TYPES)
    assert len(modern) >= 20
    assert modern <= set(V2_TYPES.values())


def test_a_padding_layer_may_work_in_place() -> None:
    new = message(
        upgraded(
            'layers { layer { name: "a" type: "relu" } bottom: "x" top: "x" }'
            'layers { layer { name: "p" type: "padding" pad: 3 } bottom: "x" top: "x" }'
            'layers { layer { name: "c" type: "conv" } bottom: "x" top: "x" }'
            'layers { layer { name: "r" type: "relu" } bottom: "x" top: "x" }'
        )
    )
    assert [layer.name for layer in new.layer] == ["a", "c", "r"]
    assert list(new.layer[1].convolution_param.pad) == [3]


V1_NET = """\
# a net
layers {
  name: "data"  # where it begins
  type: DATA
  data_param {
    source: "x_lmdb"
    # the mean of the training set
    mean_file: "mean.binaryproto"
    scale: 0.00390625
  }
  top: "data"
}

layers {
    name: "conv1"
    # old rates
    blobs_lr: 1
    blobs_lr: 2.0
    weight_decay: 1
    fork_param { x: 1 }
    type: CONVOLUTION   # big
    param: "shared"
    include: { phase: TEST }
    bottom: "data" top: "conv1"
}
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" blobs_lr: 0 }
"""

V2_NET = """\
# a net
layer {
  name: "data"  # where it begins
  type: "Data"
  data_param {
    source: "x_lmdb"
    # the mean of the training set
  }
  top: "data"
  transform_param {
    mean_file: "mean.binaryproto"
    scale: 0.00390625
  }
}

layer {
    name: "conv1"
    # old rates
    param { name: "shared" lr_mult: 1 decay_mult: 1 }
    param { lr_mult: 2.0 }
    fork_param { x: 1 }
    type: "Convolution"   # big
    include: { phase: TEST }
    bottom: "data" top: "conv1"
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" param { lr_mult: 0 } }
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_v1_comments_order_and_unknown_fields_stay(newline: str) -> None:
    assert upgraded(V1_NET.replace("\n", newline)) == V2_NET.replace("\n", newline)


V0_NET = """\
name: "old"
# the padding goes
layers {
  layer { name: "pad1" type: "padding" pad: 2 }
  bottom: "data"
  top: "pad1"
}
# the first
layers {
  # inside
  layer {
    name: "conv1"  # its name
    type: "conv"
    fork_field: 7
    # how many
    num_output: 20
    blobs_lr: 1.0
    weight_filler {
      type: "gaussian"
      std: 0.01 # narrow
    }
    kernelsize: 5
    scale: 0.5
    blobs_lr: 2.0
    alpha: 3
  }
  bottom: "pad1"  # from pad1
  top: "conv1"
  # the end
}
"""

V0_NET_TODAY = """\
name: "old"
# the padding goes
# the first
layer {
  # inside
  name: "conv1"  # its name
  type: "Convolution"
  fork_field: 7
  convolution_param {
    # how many
    num_output: 20
    weight_filler {
      type: "gaussian"
      std: 0.01 # narrow
    }
    kernel_size: 5
    pad: 2
  }
  param { lr_mult: 1.0 }
  param { lr_mult: 2.0 }
  transform_param {
    scale: 0.5
  }
  # alpha: 3
  bottom: "data"  # from pad1
  top: "conv1"
  # the end
}
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_v0_comments_and_unknown_fields_stay(newline: str) -> None:
    assert upgraded(V0_NET.replace("\n", newline)) == V0_NET_TODAY.replace("\n", newline)


def test_transformations_join_those_that_are_there() -> None:
    old = "layers { type: IMAGE_DATA image_data_param { mirror: true crop_size: 3 } transform_param { crop_size: 9 } }"
    new = message(upgraded(old)).layer[0]
    assert new.transform_param.mirror
    assert new.transform_param.crop_size == 3
    assert not new.image_data_param.HasField("mirror")


def test_only_data_layers_give_up_their_transformation() -> None:
    """NetNeedsDataUpgrade looks at three types only."""
    new = message(upgraded("layers { type: HDF5_DATA data_param { scale: 2 } }")).layer[0]
    assert new.data_param.scale == 2
    assert not new.HasField("transform_param")


def test_share_modes_and_gaps() -> None:
    new = message(upgraded("layers { type: NONE blob_share_mode: PERMISSIVE weight_decay: [1, 2] }")).layer[0]
    assert text_format.MessageToString(new, as_one_line=True) == (
        'type: "" param { share_mode: PERMISSIVE decay_mult: 1.0 } param { decay_mult: 2.0 }'
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "layers { type: RELU }\nlayer { }",
            "net.prototxt:1:8: the net has both 'layer' and 'layers' fields; write all of them as 'layer'",
        ),
        (
            'layers { name: "s" type: "Softmax" }',
            "net.prototxt:1:26: layer 's': 'layers' with the modern type \"Softmax\"; "
            "write 'layer' in place of 'layers'",
        ),
        (
            'layers { layer { name: "x" type: "relux" } }',
            "net.prototxt:1:8: layer 'x': unknown V0 layer type 'relux'; check the spelling",
        ),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" top: "p" }\n'
            'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
            "net.prototxt:2:8: layer 'r': a padding layer feeds a layer of type 'relu'; "
            "only conv and pool can be padded",
        ),
        (
            'layers { layer { type: "padding" pad: 1 } bottom: "a" top: "p" }\n'
            'layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "a" top: "r" }',
            "net.prototxt:2:8: layer 'c': a padded layer has one bottom, not 2; give it a pad of its own",
        ),
    ],
)
def test_nets_that_cannot_be_upgraded(text: str, error: str) -> None:
    with pytest.raises(RistrettoError) as caught:
        upgraded(text)
    assert str(caught.value) == error


INPUT_CASES = [
    (
        'name: "x"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 8  # high\ninput_dim: 9\n'
        'layer { name: "a" }\n',
        'name: "x"\nlayer {\n  name: "input"\n  type: "Input"\n  top: "data"\n  input_param {\n'
        '    shape { dim: 1 dim: 3 dim: 8 dim: 9 }\n  }\n}\n  # high\nlayer { name: "a" }\n',
    ),
    (
        "layer {}\ninput: ['a', 'b']\ninput_shape { dim: 2 }\ninput_shape { dim: [3, 4] }\n",
        "layer {\n  name: \"input\"\n  type: \"Input\"\n  top: 'a'\n  top: 'b'\n  input_param {\n"
        "    shape { dim: 2 }\n    shape { dim: 3 dim: 4 }\n  }\n}\nlayer {}\n",
    ),
    (
        "input: 'a' input_shape { }",
        'layer {\n  name: "input"\n  type: "Input"\n  top: \'a\'\n  input_param {\n    shape { }\n  }\n}',
    ),
]


@pytest.mark.parametrize(("old", "new"), INPUT_CASES)
def test_inputs_become_the_first_layer(old: str, new: str) -> None:
    assert upgrade_inputs(parse(old)).text == new


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "input: 'a'\ninput_dim: 1\ninput_dim: 3",
            "net.prototxt:2:12: 2 input_dim fields make no whole number of inputs; give 4 for each input",
        ),
        (
            "input: 'a'",
            "net.prototxt:1:8: the net has 1 inputs and 0 shapes; give each input an input_shape { dim: ... }",
        ),
        (
            "input: 'a' input: 'b'\ninput_shape { dim: 1 }",
            "net.prototxt:1:8: the net has 2 inputs and 1 shapes; give each input an input_shape { dim: ... }",
        ),
    ],
)
def test_inputs_without_a_shape(text: str, error: str) -> None:
    with pytest.raises(NetError) as caught:
        upgrade_inputs(parse(text, "net.prototxt"))
    assert str(caught.value) == error


def test_batch_norm_blobs_are_not_learned() -> None:
    text = 'layer { type: "BatchNorm" param { lr_mult: 1 } param { } param { lr_mult: 0 decay_mult: 0 } }'
    assert upgrade_batch_norm(parse(text)).text == (
        'layer { type: "BatchNorm" param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } '
        "param { lr_mult: 0 decay_mult: 0 } }"
    )
    two = 'layer { type: "BatchNorm" param { lr_mult: 1 } param { } }'
    fixed = 'layer { type: "BatchNorm" param: [' + ", ".join(["{ lr_mult: 0 decay_mult: 0.0 }"] * 3) + "] }"
    for document in (parse(two), parse(fixed), parse(fixed.replace("BatchNorm", "Fork").replace(": 0", ": 1"))):
        assert upgrade_batch_norm(document) is document


def test_the_solver_s_type_becomes_a_string() -> None:
    for old, new in (("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"), ("RMSPROP", "RMSProp")):
        assert upgrade_solver(parse(f"a: 1\nsolver_type: {old}  # x\n")).text == f'a: 1\ntype: "{new}"  # x\n'
    assert upgrade_solver(parse("solver_type: 5")).text == 'type: "Adam"'
    modern = parse('type: "Adam"')
    assert upgrade_solver(modern) is modern
    with pytest.raises(NetError) as caught:
        upgrade_solver(parse('type: "Adam"\nsolver_type: ADAM', "solver.prototxt"))
    assert str(caught.value) == "solver.prototxt:2:14: the solver has both solver_type and type; keep type"


def blobs(count: int) -> list[Any]:
    made = [message_class("BlobProto")(num=1, channels=1, height=1, width=2, data=[n, -n]) for n in range(count)]
    made[-1].MergeFromString(b"\xfa\x07\x03new")  # a field 127 that no schema knows
    return made


@needs_shared
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_binary_nets_keep_their_blobs(version: str) -> None:
    data = (LEGACY / f"lenet.{version}.caffemodel").read_bytes()
    old = message_class("NetParameter").FromString(data)
    new = message_class("NetParameter").FromString(upgrade_binary(data, "x.caffemodel"))
    held = [list(layer.layer.blobs if version == "v0" else layer.blobs) for layer in old.layers]
    names = [layer.layer.name if version == "v0" else layer.name for layer in old.layers]
    assert not new.layers
    assert [(layer.name, list(layer.blobs)) for layer in new.layer][-len(names) :] == list(
        zip(names, held, strict=True)
    )
    assert sum(map(len, held)) == 8
    assert {layer.type for layer in new.layer} >= {"Convolution", "Pooling", "InnerProduct"}


def test_binary_blobs_go_to_their_layers_though_names_repeat_and_paddings_go() -> None:
    first, second, third = blobs(3)
    net = message_class("NetParameter")(input=["data"], input_dim=[1, 1, 4, 4])
    for name, kind, bottom, held in (
        ("same", "innerproduct", "data", [third]),
        ("p", "padding", "same", []),
        ("same", "conv", "p", [first, second]),
        ("same", "relu", "same", []),
    ):
        layer = net.layers.add(bottom=[bottom], top=[name])
        layer.layer.name, layer.layer.type = name, kind
        layer.layer.blobs.extend(held)
    net.layers[1].layer.pad = 2
    new = message_class("NetParameter").FromString(upgrade_binary(net.SerializeToString(), "x"))
    assert [(layer.type, list(layer.blobs)) for layer in new.layer] == [
        ("Input", []),
        ("InnerProduct", [third]),
        ("Convolution", [first, second]),
        ("ReLU", []),
    ]
    assert list(new.layer[2].convolution_param.pad) == [2]
    assert list(new.layer[2].bottom) == ["same"]


def test_a_modern_binary_net_keeps_every_byte() -> None:
    net = message_class("NetParameter")(name="x")
    net.layer.add(name="a", type="Fork").blobs.extend(blobs(2))
    net.layer[0].MergeFromString(b"\xfa\x3f\x03new")
    data = net.SerializeToString()
    assert upgrade_binary(data, "x") == data
    net.input.append("data")
    net.input_shape.add(dim=[1, 2])
    new = message_class("NetParameter").FromString(upgrade_binary(net.SerializeToString(), "x"))
    assert [layer.type for layer in new.layer] == ["Input", "Fork"]
    assert list(new.layer[0].input_param.shape[0].dim) == [1, 2]
    assert new.layer[1] == net.layer[0]
    assert not new.input


def test_a_binary_net_saved_without_the_shapes_of_its_inputs() -> None:
    net = message_class("NetParameter")(input=["data"])
    net.layers.add(name="a", type="RELU").blobs.extend(blobs(1))
    new = message_class("NetParameter").FromString(upgrade_binary(net.SerializeToString(), "x"))
    assert [(layer.name, len(layer.blobs)) for layer in new.layer] == [("a", 1)]


def test_a_binary_net_that_mixes_the_forms() -> None:
    net = message_class("NetParameter")()
    net.layers.add(name="a", type="RELU")
    net.layer.add(name="b", type="ReLU")
    with pytest.raises(NetError, match="both 'layer' and 'layers'"):
        upgrade_binary(net.SerializeToString(), "x.caffemodel")


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_our_error(data: bytes) -> None:
    with contextlib.suppress(RistrettoError):
        upgrade_binary(data, "x.caffemodel")


@needs_shared
@given(st.integers(0, 3000), st.integers(1, 255))
def test_a_flipped_byte_raises_nothing_but_our_error(place: int, change: int) -> None:
    data = bytearray(LEGACY_BINARY.read_bytes())
    data[place] ^= change
    with contextlib.suppress(RistrettoError):
        upgrade_binary(bytes(data), "x.caffemodel")


def test_bytes_that_are_no_net() -> None:
    with pytest.raises(WeightsError) as caught:
        upgrade_binary(b"\xa2\x06\x7f\x00", "x.caffemodel")
    assert str(caught.value).startswith("x.caffemodel: damaged or no weights file: ")
    assert str(caught.value).endswith("; give the .caffemodel that Caffe saved")


@needs_shared
def test_upgraded_values_are_protobuf_s(tmp_path: Path) -> None:
    """The upgraded text means the same to protobuf and to a View."""
    text = upgrade_inputs(upgrade_net(parse((LEGACY / "lenet.v0.prototxt").read_bytes()))).text
    (tmp_path / "new.prototxt").write_text(text)
    names = [layer.text("name") for layer in View.of(parse(text), "NetParameter").children("layer")]
    assert names == [layer.name for layer in message(text).layer]


@given(st.data())
def test_mutated_nets_raise_nothing_but_our_error(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([V0_NET, V1_NET, INPUT_CASES[0][0], INPUT_CASES[1][0]]))
    words = ["layer", "layers", "type", "bottom", "'pad1'", '"padding"', "7", "[1, 2]", "{ }", "DATA", "input: 'x'", ""]
    for _ in range(data.draw(st.integers(1, 3))):
        match = data.draw(st.sampled_from(list(re.finditer(r"[\w.\"']+|[{}:]", text))))
        text = text[: match.start()] + data.draw(st.sampled_from(words)) + text[match.end() :]
    with contextlib.suppress(RistrettoError):
        new = upgrade_inputs(upgrade_net(parse(text)))
        assert not needs_upgrade(new)


def test_layers_in_list_syntax() -> None:
    v0 = "layers: [{ layer { type: 'relu' } top: 'a' }, { layer { type: 'padding' } top: 'b' }]"
    assert upgraded(v0) == "layer {\n  type: \"ReLU\"\n  top: 'a'\n}"
    assert upgraded("layers: [{ type: RELU }, < type: TANH >]") == 'layer: [{ type: "ReLU" }, < type: "TanH" >]'
