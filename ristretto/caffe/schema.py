"""Caffe's schema, in a descriptor pool of its own: pycaffe's may live in the same process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor

_COMPILED = Path(__file__).with_name("caffe.binpb")


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def descriptor(name: str) -> Descriptor:
    """The descriptor of a message of the schema, such as "LayerParameter".

    Raises:
        KeyError: the schema has no such message.
    """
    found: Descriptor = _pool().FindMessageTypeByName(f"caffe.{name}")
    return found


@cache
def message_class(name: str) -> Any:
    """The protobuf class of a message of the schema, such as "NetParameter"."""
    return message_factory.GetMessageClass(descriptor(name))
