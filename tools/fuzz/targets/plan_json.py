"""Formats as JSON, and what a prototxt becomes with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from json_values import replaced
from text_seeds import FORMATS, JSON_WORDS

from ristretto.caffe.net import build_net
from ristretto.caffe.textproto import parse
from ristretto.decide.plan_file import layer_to_json, plan_from_json
from ristretto.dialects.prototxt import write_plan
from ristretto.dialects.registry import DIALECTS, plan_of
from ristretto.errors import RistrettoError
from ristretto.numerics.layer_formats import ROLES
from ristretto.pipeline.files import parse_json

NET = parse(
    b"""layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 1, 4, 4] } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip" inner_product_param { num_output: 4 } }"""
)


def seeds() -> Iterable[bytes]:
    yield FORMATS
    yield b'{"layers": {"conv1": {"in": {"bw": 8, "fl": 5}}, "ip": {"params": {"bw": 4, "fl": -3}}}}'


def words() -> Iterable[str]:
    return JSON_WORDS


def one_input(data: bytes) -> None:
    try:
        plan = plan_from_json(parse_json(replaced(FORMATS, data), "formats.json", "formats"), "formats.json")
    except RistrettoError:
        return
    again = {"layers": {name: layer_to_json(formats) for name, formats in plan.layers.items()}}
    if all(set(ROLES) & layer.keys() for layer in again["layers"].values()):
        assert plan_from_json(again, "formats.json") == plan
    for name in DIALECTS:
        with contextlib.suppress(RistrettoError):
            plan_of(build_net(write_plan(NET, plan, name, nearest=True)), name)
