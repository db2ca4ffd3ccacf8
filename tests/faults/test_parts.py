"""What is not finished has no name, or one that the next writer removes once its owner is dead."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ristretto.atomic import (
    atomic_folder,
    atomic_together,
    atomic_write_bytes,
    atomic_write_text,
    atomic_writer,
    content_of,
    folders,
    parts,
    scratch_folder,
)
from ristretto.atomic.held import signals_held
from ristretto.data.cache import _unnamed_file
from ristretto.errors import UsageError
from tests.faults.injected import faults

ROOT = Path(__file__).parents[2]

needs_unnamed = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without a name here")


def no_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)


def no_naming(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", link)


def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_DESCRIPTORS", Path("/proc/none"))


SYSTEMS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "linux": lambda monkeypatch: None,
    "no unnamed files": no_unnamed,
    "no names for them": no_naming,
    "no /proc": no_descriptors,
}


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    SYSTEMS[request.param](monkeypatch)
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@needs_unnamed
def test_a_file_has_no_name_until_it_is_whole(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "out") as file:
        file.write(b"half")
        file.flush()
        assert names(tmp_path) == []
    assert names(tmp_path) == ["out"]


def test_on_every_system(tmp_path: Path, system: str) -> None:
    plain, path = tmp_path / "plain", tmp_path / "out"
    plain.write_bytes(b"x")
    for text in (b"new", b"newer"):
        atomic_write_bytes(path, text)
        assert path.read_bytes() == text
        assert path.stat().st_mode == plain.stat().st_mode
    with atomic_together():
        atomic_write_bytes(path, b"newest")
        atomic_write_bytes(tmp_path / "other", b"new")
        assert content_of(path).read_bytes() == b"newest"
        assert path.read_bytes() == b"newer"
    assert (path.read_bytes(), (tmp_path / "other").read_bytes()) == (b"newest", b"new")
    assert names(tmp_path) == ["other", "out", "plain"]


def test_several_files_or_none(tmp_path: Path, system: str) -> None:
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "c").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_together():  # noqa: PT012
        for name in "abc":
            atomic_write_bytes(tmp_path / name, b"new")
        raise ZeroDivisionError
    assert (names(tmp_path), (tmp_path / "b").read_bytes()) == (["b", "c"], b"old")


def test_a_file_that_cannot_take_its_place(tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three: the first goes again, and the old ones come back."""
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "c").write_bytes(b"old")
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if target.name == "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(UsageError, match="b: cannot write: Input/output error"), atomic_together():  # noqa: PT012
        for name in "abc":
            atomic_write_bytes(tmp_path / name, b"new")
    assert names(tmp_path) == ["b", "c"]
    assert [(tmp_path / name).read_bytes() for name in "bc"] == [b"old"] * 2


def test_blocks_inside_each_other_are_apart(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_together():  # noqa: PT012
        atomic_write_text(tmp_path / "outer", "x")
        with atomic_together():
            atomic_write_text(tmp_path / "inner", "x")
        assert names(tmp_path) == ["inner"]
        raise ZeroDivisionError
    assert names(tmp_path) == ["inner"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.lists(st.booleans(), min_size=1, max_size=4),
    first=st.integers(0, 40),
    for_good=st.booleans(),
    unnamed=st.booleans(),
)
def test_any_files_and_any_fault(tmp_path: Path, old: list[bool], first: int, for_good: bool, unnamed: bool) -> None:
    place = tmp_path / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for number, there in enumerate(old):
        if there:
            (place / str(number)).write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.MonkeyPatch.context() as patched:
        if not unnamed:
            no_unnamed(patched)
        with faults(place, first, for_good=for_good):
            try:
                with atomic_together():
                    for number in range(len(old)):
                        atomic_write_bytes(place / str(number), b"new")
                done = True
            except UsageError:
                done = False
    after = {path.name: path.read_bytes() for path in place.iterdir()}
    assert after == ({str(number): b"new" for number in range(len(old))} if done else before)


KILLED = """
import os, sys
from pathlib import Path
from ristretto.atomic import atomic_folder, atomic_writer, folders, scratch_folder
target, what = Path(sys.argv[1]), sys.argv[2]
if hasattr(os, "O_TMPFILE"):
    del os.O_TMPFILE
def wait():
    print("now", flush=True)
    sys.stdin.read()
if what == "file":
    with atomic_writer(target) as file:
        file.write(b"half")
        file.flush()
        wait()
elif what == "scratch":
    with scratch_folder() as folder:
        (folder / "file").write_bytes(b"half")
        wait()
else:
    with atomic_folder(target, mark="mark", force=True) as folder:
        (folder / "mark").write_bytes(b"new")
        if what == "folder":
            wait()
        folders._exchanged = lambda one, other: False
        rename = Path.rename
        def renamed(path, to):
            rename(path, to)
            wait()
        Path.rename = renamed
"""


class Waiting:
    """A process that is in the midst of writing."""

    def __init__(self, target: Path, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(target), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(target.parent)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"now\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_what_the_killed_left_is_removed_and_the_living_keep_theirs(tmp_path: Path) -> None:
    target = tmp_path / "out"
    living, dead = Waiting(target, "file"), Waiting(target, "file")
    folder = Waiting(target, "folder")
    others = [tmp_path / ".other.0123456789abcdef.part", tmp_path / ".out.part"]
    for path in others:
        path.touch()
    (tmp_path / f".out.{16 * 'a'}.part").symlink_to(others[0])
    assert len(names(tmp_path)) == 6
    dead.kill()
    folder.kill()
    atomic_write_bytes(target, b"x")
    assert len(names(tmp_path)) == 5, "one that is written to, two that are nobody's business, a link, and the new one"
    assert others[0].exists()
    living.process.communicate(b"")
    assert target.read_bytes() == b"half"
    assert len(names(tmp_path)) == 4


def test_an_old_folder_comes_back(tmp_path: Path) -> None:
    """Where folders cannot change their names at once, a killed process may leave the old one under another name."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "mark").write_bytes(b"old")
    Waiting(target, "between").kill()
    assert not target.exists()
    assert len(names(tmp_path)) == 2
    with pytest.raises(ZeroDivisionError), atomic_folder(target, mark="mark", force=True):
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"]
    assert (target / "mark").read_bytes() == b"old"


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_folder_takes_the_place_of_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bool
) -> None:
    if not exchanged:
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "out", mark="mark", force=True) as part:
            (part / "mark").write_text(text)
        assert names(tmp_path) == ["out"]
        assert (tmp_path / "out" / "mark").read_text() == text


def test_scratch_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = Waiting(tmp_path / "out", "scratch")
    dead.kill()
    (left,) = names(tmp_path)
    with scratch_folder() as first, scratch_folder() as second:
        assert names(tmp_path) == sorted([first.name, second.name])
        assert left not in names(tmp_path)
        assert first.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="cannot make a folder for temporary files"), scratch_folder():
        pass


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Numbers of the signals that came through to a handler."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def test_signals_come_after_the_block(heard: list[int]) -> None:
    during = False
    with pytest.raises(KeyboardInterrupt), signals_held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        during = True
    assert during
    with signals_held():
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == []
    assert heard == [signal.SIGTERM]
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(_held_here()))
    thread.start()
    thread.join()
    assert told == [True]


def _held_here() -> bool:
    with signals_held():
        return True


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are looked up in /proc")
def test_the_cache_of_images_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with _unnamed_file() as file:
        file.write(b"x")
        assert names(tmp_path) == []
        assert str(Path(f"/proc/self/fd/{file.fileno()}").readlink()).endswith(" (deleted)")
