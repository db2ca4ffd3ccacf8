"""Messages seen through the schema: the values that protobuf reads, and errors that say where and how to mend."""

from __future__ import annotations

import contextlib
import math
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from prototxts import CorpusFile, corpus, needs_shared

from ristretto.caffe.schema import descriptor, message_class
from ristretto.caffe.textproto import Message, Scalar, parse
from ristretto.caffe.view import View
from ristretto.errors import NetError, PrototxtError

FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def net(text: str) -> View:
    return View.of(parse(text, "net.prototxt"), "NetParameter")


def layer(text: str) -> View:
    return net(f"layer {{\n{text}\n}}").children("layer")[0]


def values(view: View, field: FieldDescriptor) -> list[Any]:
    """A field's values through the accessors of its kind; floats as float32, as Caffe holds them."""
    many = field.is_repeated
    name = field.name
    if field.cpp_type in FLOATS:
        found: Any = view.numbers(name) if many else [view.number(name)]
        single = field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT
        return [struct.unpack("f", struct.pack("f", v))[0] if single else v for v in found]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return list(view.flags(name)) if many else [view.flag(name)]
    if field.cpp_type in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM):
        return list(view.texts(name)) if many else [view.text(name)]
    return list(view.integers(name)) if many else [view.integer(name)]


def assert_same(view: View, message: Any) -> None:
    """Every field of the type answers as protobuf's message does, set or not."""
    for field in message.DESCRIPTOR.fields:
        name, wanted = field.name, getattr(message, field.name)
        assert view.has(name) == (bool(wanted) if field.is_repeated else message.HasField(name)), name
        if field.message_type is not None:
            inner = list(wanted) if field.is_repeated else [wanted]
            views = view.children(name) if field.is_repeated else (view.child(name),)
            for one, other in zip(views, inner, strict=True):
                if field.is_repeated or message.HasField(name):
                    assert_same(one, other)
            continue
        expected = list(wanted) if field.is_repeated else [wanted]
        if field.enum_type is not None:
            expected = [field.enum_type.values_by_number[number].name for number in expected]
        assert values(view, field) == expected, name


@needs_shared
@pytest.mark.parametrize("file", corpus(), ids=lambda file: file.path.name)
def test_protobuf_reads_the_same_values(file: CorpusFile) -> None:
    text = file.path.read_bytes().decode("utf-8", "replace")
    try:
        message = text_format.Parse(text, message_class(file.type_name)(), allow_unknown_field=True)
    except text_format.ParseError as error:
        pytest.skip(f"protobuf does not read it: {error}")
    assert_same(View.of(parse(text, file.path.name), file.type_name), message)


@needs_shared
def test_protobuf_reads_nearly_all_of_the_corpus() -> None:
    """So that the skips above do not hide the test."""
    unread = 0
    for file in corpus():
        text = file.path.read_bytes().decode("utf-8", "replace")
        try:
            text_format.Parse(text, message_class(file.type_name)(), allow_unknown_field=True)
        except text_format.ParseError:
            unread += 1
    assert unread <= 5


def test_defaults_are_the_schema_s() -> None:
    view = View.empty("LayerParameter")
    convolution = view.child("convolution_param")
    assert convolution.integer("group") == 1
    assert convolution.flag("bias_term") is True
    assert convolution.integers("kernel_size") == ()
    assert convolution.text("engine") == "DEFAULT"
    assert convolution.child("weight_filler").text("type") == "constant"
    assert view.child("lrn_param").number("alpha") == 1.0
    assert view.text("name") == ""
    assert view.children("param") == ()
    assert not view.has("name")
    assert view.unknown == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-7", -7), ("- 7", -7), ("0x1F", 31), ("-0x10", -16), ("017", 15), ("0", 0), ("2147483647", 2**31 - 1)],
)
def test_integers(text: str, value: int) -> None:
    assert (
        layer(f"pooling_param {{ pad: 1 }} concat_param {{ axis: {text} }}").child("concat_param").integer("axis")
        == value
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.5e-3f", -0.001500000013038516),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("0x10", 16.0),
        ("5.", 5.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert layer(f"power_param {{ scale: {text} }}").child("power_param").number("scale") == value


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(layer("power_param { scale: nan }").child("power_param").number("scale"))


@given(st.floats(allow_nan=False, width=32))
def test_every_float_reads_back(value: float) -> None:
    assert layer(f"power_param {{ scale: {value!r} }}").child("power_param").number("scale") == value


@given(st.floats(allow_nan=False))
def test_a_float_field_holds_the_nearest_float32(value: float) -> None:
    """As in protobuf: what is too large is infinite, and a default is rounded like what is written."""
    with np.errstate(over="ignore"):
        nearest = float(np.float32(value))
    assert layer(f"power_param {{ scale: {value!r} }}").child("power_param").number("scale") == nearest
    written, silent = (layer(f"batch_norm_param {{ {eps} }}").child("batch_norm_param") for eps in ("eps: 1e-5", ""))
    assert written.number("eps") == silent.number("eps")


@given(st.integers(-(2**70), 2**70))
def test_an_integer_is_read_or_out_of_range(value: int) -> None:
    view = layer(f"concat_param {{ axis: {value} concat_dim: {value} }}").child("concat_param")
    for field, low, high in (("axis", -(2**31), 2**31 - 1), ("concat_dim", 0, 2**32 - 1)):
        if low <= value <= high:
            assert view.integer(field) == value
        else:
            with pytest.raises(PrototxtError, match="out of its range"):
                view.integer(field)


@pytest.mark.parametrize("text", ["true", "True", "t", "1"])
def test_flags_that_are_true(text: str) -> None:
    assert layer(f"batch_norm_param {{ use_global_stats: {text} }}").child("batch_norm_param").flag("use_global_stats")


@pytest.mark.parametrize("text", ["false", "False", "f", "0"])
def test_flags_that_are_false(text: str) -> None:
    assert not layer(f"convolution_param {{ bias_term: {text} }}").child("convolution_param").flag("bias_term")


@pytest.mark.parametrize("text", ["AVE", "1"])
def test_enums_by_name_and_by_number(text: str) -> None:
    assert layer(f"pooling_param {{ pool: {text} }}").child("pooling_param").text("pool") == "AVE"


def test_lists_and_repeated_fields_are_one() -> None:
    view = net("input_dim: [1, 3] input_dim: 8 input: ['a', \"b\"] input: 'c' layer [{name: 'x'}, <name: 'y'>]")
    assert view.integers("input_dim") == (1, 3, 8)
    assert view.texts("input") == ("a", "b", "c")
    assert [child.text("name") for child in view.children("layer")] == ["x", "y"]


def test_unknown_fields_are_named_and_can_be_read_raw() -> None:
    view = layer('name: "a" fork_param { alpha: 1 } speed: 3 fork_param { alpha: 2 }')
    assert view.unknown == ("fork_param", "speed")
    assert [view.document.position(field.start) for field in view.unknown_fields] == [(2, 11), (2, 35), (2, 44)]
    (speed,) = view.raw("speed")
    assert isinstance(speed, Scalar)
    assert speed.text == "3"
    assert len(view.raw("fork_param")) == 2
    assert view.raw("nothing") == ()


BAD_VALUES = [
    ("NetParameter", "name: lenet", "name", 'net.prototxt:1:7: name needs a string; put lenet into quotes: "lenet"'),
    ("NetParameter", "name: {}", "name", "net.prototxt:1:7: name is no message; write name: value"),
    ("NetParameter", "name: 'a'\nname: 'b'", "name", "net.prototxt:2:7: name is given 2 times; keep one of them"),
    (
        "NetParameter",
        "input_dim: 'x'",
        "input_dim",
        "net.prototxt:1:12: input_dim takes no quoted string; take the quotes away: input_dim: x",
    ),
    (
        "NetParameter",
        "input_dim: big",
        "input_dim",
        "net.prototxt:1:12: input_dim needs a whole number, not 'big'; write a whole number",
    ),
    (
        "NetParameter",
        "input_dim: 1.5",
        "input_dim",
        "net.prototxt:1:12: input_dim needs a whole number, not '1.5'; write a whole number",
    ),
    (
        "NetParameter",
        "input_dim: 2147483648",
        "input_dim",
        "net.prototxt:1:12: input_dim is 2147483648, out of its range -2147483648 .. 2147483647; check the number",
    ),
    (
        "NetParameter",
        "debug_info: yes",
        "debug_info",
        "net.prototxt:1:13: debug_info is true or false, not 'yes'; write true or false",
    ),
    ("NetParameter", "layer: 3", "layer", "net.prototxt:1:8: layer is a message; write layer { ... }"),
    ("NetParameter", "state {} state {}", "state", "net.prototxt:1:16: state is given twice; join the two"),
    (
        "PoolingParameter",
        "pool: MEAN",
        "pool",
        "net.prototxt:1:7: pool has no value 'MEAN'; use one of MAX, AVE, STOCHASTIC",
    ),
    ("PoolingParameter", "pool: 7", "pool", "net.prototxt:1:7: pool has no value '7'; use one of MAX, AVE, STOCHASTIC"),
    (
        "PoolingParameter",
        "pool: 'MAX'",
        "pool",
        "net.prototxt:1:7: pool takes no quoted string; take the quotes away: pool: MAX",
    ),
    (
        "PoolingParameter",
        "pad: -1",
        "pad",
        "net.prototxt:1:6: pad is -1, out of its range 0 .. 4294967295; check the number",
    ),
    (
        "PoolingParameter",
        "pad: 09",
        "pad",
        "net.prototxt:1:6: pad needs a whole number, not '09'; write a whole number",
    ),
    ("PowerParameter", "scale: big", "scale", "net.prototxt:1:8: scale needs a number, not 'big'; write a number"),
    (
        "PowerParameter",
        "scale: '1'",
        "scale",
        "net.prototxt:1:8: scale takes no quoted string; take the quotes away: scale: 1",
    ),
]


def ask(view: View, name: str) -> None:
    """Ask for a field with the accessor of its kind."""
    field = descriptor(view.type_name).fields_by_name[name]
    if field.message_type is not None:
        view.children(name) if field.is_repeated else view.child(name)
    else:
        values(view, field)


@pytest.mark.parametrize(("type_name", "text", "field", "message"), BAD_VALUES)
def test_bad_values(type_name: str, text: str, field: str, message: str) -> None:
    view = View.of(parse(text, "net.prototxt"), type_name)
    with pytest.raises(PrototxtError) as caught:
        ask(view, field)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "-" + "9" * 5000, "0" + "7" * 5000, "1e999", "nan"])
def test_absurd_numbers_are_errors_or_numbers(text: str) -> None:
    view = View.of(parse(f"axis: {text}"), "ConcatParameter")
    with pytest.raises(PrototxtError):
        view.integer("axis")
    with pytest.raises(PrototxtError):
        View.of(parse(f"pool: {text}"), "PoolingParameter").text("pool")
    with contextlib.suppress(PrototxtError):
        View.of(parse(f"scale: {text}"), "PowerParameter").number("scale")


def test_a_bad_value_in_a_layer_names_the_layer() -> None:
    with pytest.raises(PrototxtError) as caught:
        layer('name: "pool1"\npooling_param { pool: MEAN }').child("pooling_param").text("pool")
    assert str(caught.value).startswith("net.prototxt:3:23: layer 'pool1': pool has no value 'MEAN'")


def test_errors_are_placed_at_the_field_or_the_message() -> None:
    view = layer('name: "ip1"\n  inner_product_param {\n    num_output: 0\n  }')
    params = view.child("inner_product_param")
    error = params.error("num_output is 0", cure="give the number of outputs", field="num_output")
    assert isinstance(error, NetError)
    assert str(error) == "net.prototxt:4:17: layer 'ip1': num_output is 0; give the number of outputs"
    assert str(params.error("no")) == "net.prototxt:3:23: layer 'ip1': no"
    assert str(params.error("no", field="axis")) == "net.prototxt:3:23: layer 'ip1': no"
    assert str(view.error("no")) == "net.prototxt:1:7: layer 'ip1': no"
    assert str(view.child("pooling_param").error("no")) == "net.prototxt:1:7: layer 'ip1': no"
    assert str(View.empty("LayerParameter").error("no")) == "no"


@pytest.mark.parametrize(
    ("accessor", "field"),
    [
        ("integer", "no_such_field"),
        ("has", "no_such_field"),
        ("child", "no_such_field"),
        ("integer", "name"),
        ("text", "param"),
        ("flag", "name"),
        ("child", "name"),
        ("children", "loss_weight"),
        ("integers", "loss_weight"),
    ],
)
def test_a_field_that_the_schema_lacks_is_a_fault_of_the_program(accessor: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"LayerParameter has no field {field}"):
        getattr(View.empty("LayerParameter"), accessor)(field)


def test_the_name_of_a_layer_is_looked_for_once_for_all_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may have as many of them as it likes, and each search goes through them all."""
    asked: list[str] = []
    first = Message.first
    monkeypatch.setattr(Message, "first", lambda self, name: asked.append(name) or first(self, name))
    view = layer("param { } " * 500 + 'name: "l"')
    assert [child.owner for child in view.children("param")] == ["l"] * 500
    assert asked == ["name"]


def test_the_first_value_is_found_without_a_look_at_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    message = parse("a: [ ] a: 1 a: 2").root
    monkeypatch.setattr(Message, "all", None)
    assert [getattr(message.first(name), "text", None) for name in "ab"] == ["1", None]
