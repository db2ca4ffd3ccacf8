"""Fields of a prototxt that no schema knows: they have no effect, and may be misspellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ristretto.caffe.catalogue.registry import is_plugged
from ristretto.caffe.net import modernise, read_prototxt
from ristretto.caffe.netspec import type_of
from ristretto.caffe.schema import descriptor
from ristretto.caffe.textproto import Message
from ristretto.caffe.view import View
from ristretto.errors import RistrettoError

_LONGEST = 1 << 20
"""Bytes of the longest file that is read only for this; a weights file is no prototxt."""

MOST_WARNINGS = 50
"""How many fields are named: who has more of them has them in every layer."""


def unknown_fields(layers: Iterable[View]) -> Iterator[str]:
    """A warning for each field that no schema knows in some layers, but for those that plug-ins teach."""
    warnings = _unknown_fields(layers)
    yield from islice(warnings, MOST_WARNINGS)
    if next(warnings, None) is not None:
        yield f"these are not all: more than {MOST_WARNINGS} fields are not known"


def _unknown_fields(layers: Iterable[View]) -> Iterator[str]:
    for layer in layers:
        if is_plugged(type_of(layer)):
            continue
        for view in _with_children(layer):
            for field in view.unknown:
                near = difflib.get_close_matches(field, descriptor(view.type_name).fields_by_name, n=1)
                hint = f": is '{near[0]}' meant?" if near else ""
                line = view.document.position(next(view.message.named(field)).start)[0]
                place = f"{view.document.file}:{line}: layer '{layer.text('name')}'"
                yield f"{place}: field '{field[:80]}' is not known and has no effect{hint}"


def unknown_fields_of(file: str) -> tuple[str, ...]:
    """The same for all layers of a file; nothing for one that is no net, or cannot be read at all."""
    path = Path(file)
    if not path.is_file() or path.stat().st_size > _LONGEST:  # a pipe is read only once
        return ()
    try:
        net = View.of(modernise(read_prototxt(path)), "NetParameter")
        return tuple(unknown_fields(net.children("layer")))
    except RistrettoError:
        return ()


def _with_children(view: View) -> list[View]:
    """A view and those of the messages below it."""
    found = [view]
    known = descriptor(view.type_name).fields_by_name
    for name in dict.fromkeys(field.name for field in view.message.fields):
        if name in known and isinstance(view.message.first(name), Message):
            for child in view.children(name):
                found += _with_children(child)
    return found
