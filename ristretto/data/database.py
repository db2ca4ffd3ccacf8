"""Data layers: LMDB, and LevelDB where its package is installed (data_layer.cpp, db_lmdb.cpp)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol
from weakref import WeakValueDictionary

import lmdb
import numpy as np

from ristretto.caffe.netspec import LayerSpec
from ristretto.data.datum import BadImageError, Image, parse_datum
from ristretto.data.records import RecordSource
from ristretto.data.source import Resolver
from ristretto.data.transform import read_transform
from ristretto.errors import UsageError


class _Database(Protocol):
    """An open database."""

    keys: list[bytes]

    def get(self, key: bytes) -> bytes | memoryview | None:
        """The record of a key."""


class _Environment:
    """An open LMDB environment. A process may open a folder once only, so all sources of a folder share one."""

    _opened: ClassVar[WeakValueDictionary[Path, _Environment]] = WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        self.handle = lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir())

    @classmethod
    def of(cls, path: Path) -> _Environment:
        """The environment of a folder, opened if no source holds it already."""
        resolved = path.resolve()
        found = cls._opened.get(resolved) or cls(resolved)
        cls._opened[resolved] = found
        return found


class _Lmdb:
    """An LMDB, opened read-only and without a lock so that a read-only folder will do."""

    def __init__(self, path: Path, resolver: Resolver) -> None:
        self._path, self._resolver = path, resolver
        try:
            self._shared = _Environment.of(path)
            self._environment = self._shared.handle
            info = self._environment.info()
            size = (path / "data.mdb" if path.is_dir() else path).stat().st_size
            pages = (info["last_pgno"] + 1) * self._environment.stat()["psize"]
            if size < pages:
                raise self._error(f"it is cut short: {size} bytes of {pages}")
            with self._environment.begin() as transaction:
                self.keys = list(transaction.cursor().iternext(keys=True, values=False))
            self._transaction = self._environment.begin(buffers=True)
        except lmdb.Error as error:
            raise self._error(str(error)) from error

    def _error(self, why: str) -> Exception:
        return self._resolver.error(f"cannot open the LMDB '{self._path}': {why}", "copy or convert it again")

    def get(self, key: bytes) -> bytes | memoryview | None:
        """The record of a key."""
        found: memoryview | None = self._transaction.get(key)
        return found


class _LevelDb:
    """A LevelDB, through the optional package plyvel."""

    def __init__(self, path: Path, resolver: Resolver) -> None:
        try:
            import plyvel
        except ImportError as error:
            cure = "pip install 'ristretto-fixed-point[leveldb]', or convert the data to LMDB"
            raise UsageError("LevelDB sources need the package plyvel", layer=resolver.layer.name, cure=cure) from error
        try:
            self._database: Any = plyvel.DB(str(path), create_if_missing=False)
        except (plyvel.Error, OSError) as error:
            raise resolver.error(f"cannot open the LevelDB '{path}': {error}", "is backend: LMDB missing?") from error
        self.keys = list(self._database.iterator(include_value=False))

    def get(self, key: bytes) -> bytes | memoryview | None:
        """The record of a key."""
        found: bytes | None = self._database.get(key)
        return found


class DatabaseSource(RecordSource):
    """The Datums of a database in the order of their keys."""

    def __init__(self, layer: LayerSpec, data_root: Path | None, seed: int) -> None:
        view = layer.view.child("data_param")
        self._resolver = Resolver(layer, data_root)
        self._path = self._resolver.find(view.text("source"), "the source")
        self._lmdb = view.text("backend") == "LMDB"
        if not self._lmdb and (self._path / "data.mdb").exists():
            raise view.error("the source is an LMDB, the layer says LEVELDB", field="backend", cure="set backend: LMDB")
        self.batch_size = view.integer("batch_size")
        if self.batch_size < 1:
            raise view.error("batch_size must be at least 1", field="batch_size", cure="set data_param.batch_size")
        self.transform = read_transform(layer, self._resolver)
        self.seed = seed
        self._skip = view.integer("rand_skip") if layer.phase == "TRAIN" else 0
        self.tops = layer.tops
        self._database = self._open()
        self.images = len(self._database.keys)
        if not self.images:
            raise self._resolver.error(f"the source '{self._path}' holds no records", "fill it, or name another one")
        image, _ = self.read()(0)
        shape = self.transform.output_shape(image.shape)
        self.shapes = dict(zip(self.tops, ((self.batch_size, *shape), (self.batch_size,)), strict=False))

    def _open(self) -> _Database:
        return _Lmdb(self._path, self._resolver) if self._lmdb else _LevelDb(self._path, self._resolver)

    def order(self, rng: np.random.Generator) -> Iterator[int]:
        """Key order, starting after a random skip in TRAIN, round and round."""
        number = int(rng.integers(self._skip)) if self._skip else 0
        while True:
            yield number % self.images
            number += 1

    def read(self) -> Callable[[int], tuple[Image, float]]:
        """Reads and decodes one Datum."""
        database, color = self._database, self.transform.color

        def read_one(number: int) -> tuple[Image, float]:
            try:
                record = database.get(database.keys[number])
            except lmdb.Error as error:
                raise self._resolver.error(f"cannot read {self.describe(number)}: {error}", "copy it again") from error
            if record is None:
                raise self._resolver.error(f"{self.describe(number)} is in the index and not in the data")
            try:
                return parse_datum(record, color)
            except BadImageError as error:
                raise self._resolver.error(f"{self.describe(number)} {error}", "convert the data again") from error

        return read_one

    def describe(self, number: int) -> str:
        """The record's key."""
        key = self._database.keys[number].decode("utf-8", "backslashreplace")
        return f"record '{key}' of {self._path}"
