"""The compiled schema holds all that Caffe's and SSD's own schemas hold."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FieldDescriptor

from ristretto.caffe import schema

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT.parent / "shared" / "facts"
SOURCES = ("caffe_schema.json", "ssd_schema_additions.json")
PRIVATE = 10000
SCALARS = {
    "double": FieldDescriptor.TYPE_DOUBLE,
    "float": FieldDescriptor.TYPE_FLOAT,
    "int64": FieldDescriptor.TYPE_INT64,
    "uint64": FieldDescriptor.TYPE_UINT64,
    "int32": FieldDescriptor.TYPE_INT32,
    "uint32": FieldDescriptor.TYPE_UINT32,
    "bool": FieldDescriptor.TYPE_BOOL,
    "string": FieldDescriptor.TYPE_STRING,
    "bytes": FieldDescriptor.TYPE_BYTES,
}
CLASHES = {("SolverParameter", "ap_version"), ("SolverParameter", "eval_type")}


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def facts(source: str) -> Any:
    path = FACTS / source
    if not path.is_file():
        pytest.skip(f"the description of the schema is not here: {path}")
    return json.loads(path.read_text())


def proto_default(kind: str, text: str) -> Any:
    """A default as the descriptor gives it, from the text of the schema."""
    if kind in ("float", "double"):
        return float(text)
    if kind == "bool":
        return text == "true"
    if kind in ("int32", "uint32", "int64", "uint64"):
        return int(text)
    return text


def check_field(message: str, name: str, wanted: dict[str, Any]) -> None:
    field = schema.descriptor(message).fields_by_name[name]
    assert field.is_repeated == (wanted["label"] == "repeated")
    assert field.is_required == (wanted["label"] == "required")
    kind = wanted["type"]
    if kind in SCALARS:
        assert field.type == SCALARS[kind]
    elif field.enum_type is not None:
        assert field.enum_type.full_name in (f"caffe.{kind}", f"caffe.{message}.{kind}")
    else:
        assert field.message_type.full_name == f"caffe.{kind}"
    assert field.is_packed == wanted.get("packed", False)
    assert field.has_default_value == ("default" in wanted)
    if "default" in wanted:
        value = field.default_value
        if field.enum_type is not None:
            value = field.enum_type.values_by_number[value].name
        expected = proto_default(kind, wanted["default"])
        assert value == (pytest.approx(expected, rel=1e-7) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_is_there(source: str) -> None:
    clashes = set()
    for message, fields in facts(source)["messages"].items():
        for name, wanted in fields.items():
            check_field(message, name, wanted)
            number = schema.descriptor(message).fields_by_name[name].number
            if number != wanted["number"]:
                assert number >= PRIVATE
                clashes.add((message, name))
    assert clashes == (CLASHES if source.startswith("ssd") else set())


@pytest.mark.parametrize("source", SOURCES)
def test_every_enum_is_there(source: str) -> None:
    for name, values in facts(source)["enums"].items():
        message, _, enum = name.rpartition(".")
        where = schema.descriptor(message).enum_types_by_name if message else None
        found = where[enum] if where else schema.descriptor("NetState").fields_by_name["phase"].enum_type
        assert {value.name: value.number for value in found.values} == values


def test_our_own_fields_extend_the_quantization_parameter() -> None:
    fields = schema.descriptor("QuantizationParameter").fields_by_name
    numbers = {name: fields[name].number for name in ("bw_bias", "fl_bias", "unsigned_layer_in", "unsigned_layer_out")}
    assert numbers == {"bw_bias": 100, "fl_bias": 101, "unsigned_layer_in": 102, "unsigned_layer_out": 103}
    assert fields["bw_bias"].type == fields["bw_params"].type
    assert fields["fl_bias"].type == fields["fl_params"].type
    assert fields["unsigned_layer_in"].default_value is False


def test_the_compiled_schema_is_the_written_one() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles the schema and is not installed")
    compiler = tool("compile_schema")
    fresh = descriptor_pb2.FileDescriptorSet.FromString(compiler.compiled())
    assert fresh == descriptor_pb2.FileDescriptorSet.FromString(compiler.TARGET.read_bytes())


def test_the_written_schema_is_what_the_generator_writes() -> None:
    generator = tool("make_schema")
    sources = [facts(source) for source in SOURCES]
    messages = generator.merge(*(source["messages"] for source in sources), generator.OURS)
    enums = {name: values for source in sources for name, values in source["enums"].items()}
    assert generator.render(messages, enums) == generator.PROTO.read_text()


def test_another_caffe_schema_may_live_in_the_same_process() -> None:
    """As pycaffe's does, in protobuf's default pool."""
    other = descriptor_pb2.FileDescriptorProto(name="caffe/proto/caffe.proto", package="caffe", syntax="proto2")
    other.message_type.add(name="NetParameter")
    descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
    assert "layer" in schema.descriptor("NetParameter").fields_by_name
    assert not descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter").fields_by_name


def test_message_classes_are_made_once() -> None:
    assert schema.message_class("NetParameter") is schema.message_class("NetParameter")
    assert schema.message_class("LayerParameter")(name="a").name == "a"


def test_a_message_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        schema.descriptor("NoSuchParameter")
