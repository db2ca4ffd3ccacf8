"""Nets: upgraded, built in each phase, shapes inferred, formats read and written in each dialect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from built_nets import built_net
from text_seeds import NUMBERS, nets, schema_words

from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import NetSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document, parse
from ristretto.caffe.upgrade import upgrade_batch_norm, upgrade_inputs, upgrade_net
from ristretto.decide.plan import QuantPlan
from ristretto.dialects.prototxt import convert_plan, write_plan
from ristretto.dialects.registry import DIALECTS, plan_of
from ristretto.errors import RistrettoError
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats

_FMT = DynamicFixedPoint(8, 4)
_FORMATS = LayerFormats(_FMT, _FMT, _FMT, _FMT)
_PHASES: tuple[Phase, ...] = ("TEST", "TRAIN")

LONGEST = 4096
"""Bytes of an input: nets are long."""


def seeds() -> Iterable[bytes]:
    yield from nets()


def words() -> Iterable[str]:
    yield from schema_words("NetParameter", "V1LayerParameter")
    yield from NUMBERS


def one_input(data: bytes) -> None:
    try:
        document = parse(data, "net.prototxt")
    except RistrettoError:
        return
    modern = _modern(document)
    for phase in _PHASES:
        built = built_net(modern or document, phase)
        if built is not None and phase == "TEST":
            _dialects(modern or document, built[0])


def _modern(document: Document) -> Document | None:
    try:
        return upgrade_batch_norm(upgrade_inputs(upgrade_net(document)))
    except RistrettoError:
        return None


def _dialects(document: Document, net: NetSpec) -> None:
    plan = QuantPlan({layer.name: _FORMATS for layer in net.layers[:4]})
    for name in DIALECTS:
        with contextlib.suppress(RistrettoError):
            plan_of(net, name, nearest=True)
        try:
            written = write_plan(document, plan, name, nearest=True)
            plan_of(build_net(written, NetState("TEST")), name)
        except RistrettoError:
            pass
        with contextlib.suppress(RistrettoError):
            convert_plan(document, "auto", name, nearest=True)
