"""Whether an LMDB is what its index says: what the library trusts is checked before it is opened.

LMDB maps its file and follows page numbers and offsets without a look at them, so that a damaged or a forged file ends
the process. All that its cursor will follow is followed here first, and has to lie in the file. The layout is that of
LMDB 0.9 on 64-bit machines (mdb.c: MDB_page, MDB_meta, MDB_db, MDB_node); values are not read.
"""

from __future__ import annotations

import mmap
import struct
from itertools import pairwise
from pathlib import Path

from ristretto.data.mapped import give_back
from ristretto.inputs import open_input

_HEADER = 16
_BRANCH, _LEAF, _META = 0x01, 0x02, 0x08
_KINDS = 0x7F
"""What a page is: a branch, a leaf, an overflow, a meta page, or a part of a database that Caffe does not make."""

_NODE = struct.Struct("<HHHH")
_LONGEST_KEY = 511
"""Bytes of a key (MDB_MAXKEYSIZE)."""
_BIG = 0x01
"""A record that lies in pages of its own."""

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_NO_PAGE = 0xFFFFFFFFFFFFFFFF
_DEEPEST = 32
"""Levels of a tree that a cursor has room for (CURSOR_STACK)."""
_PAGES_AT_ONCE = 16
"""So many are looked at before they are given back."""


class LmdbError(ValueError):
    """An LMDB that does not hold together."""


def check_lmdb(file: Path) -> None:
    """Walk through the tree of an LMDB's main database.

    Args:
        file: its data.mdb.

    Raises:
        LmdbError: something in it leads out of the file, or nowhere.
        OSError: it cannot be read.
    """
    with open_input(file) as opened:
        size = file.stat().st_size
        if size < 2 * _PAGE_SIZES[0]:
            raise LmdbError("it is no LMDB")
        # It is closed when nothing looks at it any more; an error's traceback may for a while.
        _Tree(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)).check()


class _Tree:
    """The pages of a file."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._data = data = memoryview(mapped)
        self._page_size, self._root, self._depth, last = _newest(data)
        self._pages = last + 1
        if self._pages * self._page_size > len(data):
            what = f"it is cut short: {len(data)} bytes of {self._pages * self._page_size}"
            raise LmdbError(what)
        self._seen = bytearray(self._pages)

    def check(self) -> None:
        """Follow the index to every record."""
        if self._root == _NO_PAGE:
            return
        if not 0 < self._depth <= _DEEPEST:
            what = f"its index claims {self._depth} levels"
            raise LmdbError(what)
        level = [self._root]
        for depth in range(1, self._depth + 1):
            wanted = _LEAF if depth == self._depth else _BRANCH
            below: list[int] = []
            for count, number in enumerate(level, 1):
                below += self._page(number, wanted)
                if count % _PAGES_AT_ONCE == 0:
                    give_back(self._mapped)
            level = below

    def _page(self, number: int, wanted: int) -> list[int]:
        """The children of a branch; those of a leaf are its records, which are looked at here."""
        self._take(number, 1)
        size = self._page_size
        page = self._data[number * size : (number + 1) * size]
        flags, lower, upper = struct.unpack_from("<HHH", page, 10)
        if flags & _KINDS != wanted:
            what = f"page {number} is of another kind than the index says"
            raise LmdbError(what)
        least = _HEADER + 2 * (2 if wanted == _BRANCH else int(self._depth > 1))
        if not least <= lower <= upper <= size or lower % 2:
            what = f"page {number} has no room for its records"
            raise LmdbError(what)
        children = []
        spans = []
        for (node,) in struct.iter_unpack("<H", page[_HEADER:lower]):
            if not upper <= node <= size - _NODE.size:
                what = f"page {number} has a record outside of it"
                raise LmdbError(what)
            low, high, more, key = _NODE.unpack_from(page, node)
            end = node + _NODE.size + key
            if wanted == _BRANCH:
                children.append(low | high << 16 | more << 32)
            elif more & ~_BIG:
                what = f"page {number} holds a database, or several records of a key"
                raise LmdbError(what)
            elif more and end + 8 <= size:
                (first,) = struct.unpack_from("<Q", page, end)
                self._take(first, -(-(_HEADER + (low | high << 16)) // size))
            else:
                end += 8 if more else low | high << 16
            if end > size:
                what = f"page {number} has a record that ends outside of it"
                raise LmdbError(what)
            if key > _LONGEST_KEY:
                what = f"page {number} has a key of {key} bytes"
                raise LmdbError(what)
            spans.append((node, end))
        spans.sort()
        if any(end > after for (_, end), (after, _) in pairwise(spans)):
            what = f"page {number} has a record twice, or one inside another"
            raise LmdbError(what)
        return children

    def _take(self, first: int, count: int) -> None:
        """Pages that belong to one place of the tree."""
        if not 2 <= first <= self._pages - count:
            what = f"its index leads to page {first}, and the last one is {self._pages - 1}"
            raise LmdbError(what)
        if self._seen.find(1, first, first + count) >= 0:
            what = f"its index leads to page {first} twice"
            raise LmdbError(what)
        self._seen[first : first + count] = b"\1" * count


def _newest(data: memoryview) -> tuple[int, int, int, int]:
    """Page size, root page, levels and last page, by the one of both metas that was written last."""
    metas = []
    offset = 0
    for _ in range(2):
        if offset + _HEADER + 136 > len(data):
            raise LmdbError("it has one page alone")
        flags = struct.unpack_from("<H", data, offset + 10)[0]
        magic, version = struct.unpack_from("<II", data, offset + _HEADER)
        if not flags & _META or magic != _MAGIC or version != _VERSION:
            raise LmdbError("it is no LMDB")
        base = offset + _HEADER + 24
        page_size = struct.unpack_from("<I", data, base)[0]
        main_flags, depth = struct.unpack_from("<HH", data, base + 48 + 4)
        (root,) = struct.unpack_from("<Q", data, base + 48 + 40)
        last, transaction = struct.unpack_from("<QQ", data, base + 96)
        if page_size not in _PAGE_SIZES:
            what = f"it claims pages of {page_size} bytes"
            raise LmdbError(what)
        metas.append((transaction, page_size, root, depth, last, main_flags))
        offset = metas[0][1]
    first, second = metas
    if first[1] != second[1]:
        raise LmdbError("its two first pages contradict each other")
    _, page_size, root, depth, last, main_flags = second if first[0] < second[0] else first
    if main_flags:
        raise LmdbError("its keys are not those of Caffe")
    if last >= len(data):  # a page has more bytes than one
        what = f"it is cut short: {len(data)} bytes hold no {last + 1} pages"
        raise LmdbError(what)
    return page_size, root, depth, last
