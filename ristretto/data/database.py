"""Data layers: LMDB, and LevelDB where its package is installed (data_layer.cpp, db_lmdb.cpp)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol
from weakref import WeakValueDictionary

import lmdb
import numpy as np

from ristretto.caffe.netspec import LayerSpec
from ristretto.data.cache import Cache
from ristretto.data.datum import BadImageError, Image, is_encoded, parse_datum
from ristretto.data.lmdb_check import LmdbError, check_lmdb
from ristretto.data.mapped import MappedFile
from ristretto.data.records import Reader, RecordSource
from ristretto.data.source import Resolver, image_and_label_shapes, read_batch_size
from ristretto.data.transform import read_transform
from ristretto.errors import DataError, UsageError
from ristretto.inputs import open_input

_BYTES_AT_ONCE = 32 << 20
"""So much of an LMDB is read before its pages are given back."""

_KEYS_AT_ONCE = 512
"""So many keys: records lie between their pages."""


class _Database(Protocol):
    """An open database."""

    keys: list[bytes]

    def get(self, key: bytes) -> bytes | memoryview | None:
        """The record of a key.

        Raises:
            BadImageError: the database cannot read it.
        """


class _Shared:
    """The open handle of a folder. A process may open each one once only, so all sources of a folder share it.

    Attributes:
        handle: an lmdb.Environment or a plyvel.DB; closed when the last source of the folder is gone.
    """

    _opened: ClassVar[WeakValueDictionary[Path, _Shared]] = WeakValueDictionary()

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @classmethod
    def of(cls, path: Path, open_folder: Callable[[Path], Any]) -> _Shared:
        """The handle of a folder, opened if no source holds it already."""
        resolved = path.resolve()
        found = cls._opened.get(resolved) or cls(open_folder(resolved))
        cls._opened[resolved] = found
        return found


def _open_lmdb(path: Path) -> Any:
    """Open read-only and without a lock, so that a read-only folder will do."""
    return lmdb.open(str(path), readonly=True, lock=False, subdir=path.is_dir())


class _Lmdb:
    """An LMDB."""

    def __init__(self, path: Path, resolver: Resolver) -> None:
        self._path, self._resolver = path, resolver
        file = path / "data.mdb" if path.is_dir() else path
        if not file.is_file():
            raise self._error("it holds no data.mdb", "name the folder that does")
        try:
            if not file.stat().st_size:
                raise self._error("its data.mdb is empty")
            check_lmdb(file)
            self._shared = _Shared.of(path, _open_lmdb)
            self._transaction, self._read = self._shared.handle.begin(buffers=True), 0
            self.keys = self._list()
        except LmdbError as error:
            raise self._error(str(error)) from error
        except (lmdb.Error, OSError) as error:
            raise self._error(_reason(error)) from error

    def _list(self) -> list[bytes]:
        """All keys, in their order."""
        keys: list[bytes] = []
        cursor = self._transaction.cursor()
        if not cursor.first():
            return keys
        self._mapped = MappedFile(cursor.key())
        found = map(bytes, cursor.iternext(keys=True, values=False))
        while some := list(islice(found, _KEYS_AT_ONCE)):
            keys += some
            self._mapped.give_back()
        return keys

    def _error(self, why: str, cure: str = "copy or convert it again") -> DataError:
        return self._resolver.error(f"cannot open the LMDB '{self._path}': {why}", cure)

    def get(self, key: bytes) -> bytes | memoryview | None:
        """See _Database."""
        try:
            found: memoryview | None = self._transaction.get(key)
        except lmdb.Error as error:
            what = f"cannot be read ({_reason(error)})"
            raise BadImageError(what) from error
        self._read += len(found or b"")
        if self._read > _BYTES_AT_ONCE:
            self._read = 0
            self._mapped.give_back()
        return found


def _reason(error: Exception) -> str:
    """What went wrong, without the path and the code that the databases put before it."""
    detail = error.args[0] if error.args else ""
    text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(error)
    return text.rpartition(": ")[2]


class _LevelDb:
    """A LevelDB, through the optional package plyvel."""

    def __init__(self, path: Path, resolver: Resolver) -> None:
        try:
            import plyvel
        except ImportError as error:
            cure = "pip install 'ristretto-fixed-point[leveldb]', or convert the data to LMDB"
            raise UsageError("LevelDB sources need the package plyvel", layer=resolver.layer.name, cure=cure) from error
        try:
            for file in path.glob("*"):
                if not file.is_dir():
                    open_input(file).close()  # the library would wait for a pipe
            self._shared = _Shared.of(path, lambda folder: plyvel.DB(str(folder), create_if_missing=False))
            self.keys = list(self._shared.handle.iterator(include_value=False))
        except (plyvel.Error, OSError) as error:
            cure = "copy or convert it again, or set backend: LMDB if it is one"
            raise resolver.error(f"cannot open the LevelDB '{path}': {_reason(error)}", cure) from error
        self._failures = (plyvel.Error, OSError)

    def get(self, key: bytes) -> bytes | memoryview | None:
        """See _Database."""
        try:
            found: bytes | None = self._shared.handle.get(key)
        except self._failures as error:
            what = f"cannot be read ({_reason(error)})"
            raise BadImageError(what) from error
        return found


class DatabaseSource(RecordSource):
    """The Datums of a database in the order of their keys."""

    def __init__(self, layer: LayerSpec, data_root: Path | None, seed: int, cache: Cache) -> None:
        view = layer.view.child("data_param")
        self._resolver = Resolver(layer, data_root)
        self._path = self._resolver.find(view.text("source"), "the source")
        self._lmdb = view.text("backend") == "LMDB"
        holds_lmdb, holds_leveldb = ((self._path / name).exists() for name in ("data.mdb", "CURRENT"))
        if not self._lmdb and holds_lmdb:
            raise view.error("the source is an LMDB, the layer says LEVELDB", field="backend", cure="set backend: LMDB")
        if self._lmdb and holds_leveldb and not holds_lmdb:
            cure = "set backend: LEVELDB"
            raise view.error("the source is a LevelDB, the layer says LMDB", field="backend", cure=cure)
        self.batch_size = read_batch_size(view)
        self.transform = read_transform(layer, self._resolver)
        self.seed, self.cache = seed, cache
        self.identity = ("Data", self._path.resolve(), self.transform.color)
        self._skip = view.integer("rand_skip") if layer.phase == "TRAIN" else 0
        self.tops = layer.tops
        self._database = self._open()
        self.images = len(self._database.keys)
        if not self.images:
            raise self._resolver.error(f"the source '{self._path}' holds no records", "fill it, or name another one")
        self.encoded = self._encoded()
        image, _ = self.kept()(0)
        self.shapes = image_and_label_shapes(layer, self.batch_size, self.transform.output_shape(image.shape))

    def _open(self) -> _Database:
        return _Lmdb(self._path, self._resolver) if self._lmdb else _LevelDb(self._path, self._resolver)

    def _encoded(self) -> bool:
        """Whether the first record holds an encoded image; the others will be alike."""
        try:
            return is_encoded(self._database.get(self._database.keys[0]) or b"")
        except BadImageError:
            return False  # reading it says what is wrong

    def order(self, rng: np.random.Generator) -> Iterator[int]:
        """Key order, starting after a random skip in TRAIN, round and round."""
        number = int(rng.integers(self._skip)) if self._skip else 0
        while True:
            yield number % self.images
            number += 1

    def read(self) -> Reader:
        """Reads and decodes one Datum."""
        database, color = self._database, self.transform.color

        def read_one(number: int) -> tuple[Image, float]:
            try:
                record = database.get(database.keys[number])
                if record is None:
                    what = "is in the index and not in the data"
                    raise BadImageError(what)
                return parse_datum(record, color)
            except BadImageError as error:
                raise self._resolver.error(f"{self.describe(number)} {error}", "convert the data again") from error

        return read_one

    def describe(self, number: int) -> str:
        """The record's key."""
        key = self._database.keys[number].decode("utf-8", "backslashreplace")
        return f"record '{key}' of {self._path}"
