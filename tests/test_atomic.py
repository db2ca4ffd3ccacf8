"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ristretto.atomic import atomic_folder, atomic_write_bytes, atomic_write_text, atomic_writer, check_writable
from ristretto.errors import UsageError


def test_new_file_and_new_content(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    atomic_write_text(path, "first µ")
    assert path.read_text(encoding="utf-8") == "first µ"
    atomic_write_bytes(path, [b"in ", memoryview(b"pieces")])
    assert path.read_bytes() == b"in pieces"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_that_came_in_as_surrogates_go_out_as_they_were(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "out.txt", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "out.txt").read_bytes() == b"caf\xe9"


def test_the_old_content_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    with atomic_writer(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("exception", [KeyError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, exception: type[BaseException]) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise exception

    with pytest.raises(exception):
        atomic_write_bytes(path, pieces())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError) as caught:
        atomic_write_bytes(path, pieces())
    cure = "free some space or choose another place"
    assert str(caught.value) == f"{path}: cannot write: No space left on device; {cure}"
    assert list(tmp_path.iterdir()) == []


def test_impossible_places(tmp_path: Path) -> None:
    for attempt in (check_writable, lambda path: atomic_write_bytes(path, b"")):
        with pytest.raises(UsageError) as caught:
            attempt(tmp_path / "no" / "out.txt")
        place = f"{tmp_path / 'no' / 'out.txt'}"
        assert str(caught.value) == f"{place}: cannot write: the folder does not exist; make {tmp_path / 'no'} first"
        with pytest.raises(UsageError) as caught:
            attempt(tmp_path)
        assert str(caught.value) == f"{tmp_path}: this is a folder, a file is to be written; give a file name"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for this user")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot write: no permission; choose another place"):
        atomic_write_bytes(tmp_path / "out.txt", b"")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users here")
def test_an_old_file_of_another_user_in_a_sticky_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /tmp, where everybody may write, and only its owner replace a file."""
    old, link = tmp_path / "old", tmp_path / "link"
    old.touch()
    link.symlink_to(old)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    check_writable(old)
    tmp_path.chmod(0o1777)
    check_writable(tmp_path / "new")
    for path in (old, link):
        with pytest.raises(UsageError) as caught:
            check_writable(path)
        what = "cannot write: the old file is another user's, and in this folder only its owner may replace it"
        assert str(caught.value) == f"{path}: {what}; give another name, or have its owner remove it"
    monkeypatch.setattr(os, "geteuid", lambda: user)
    check_writable(old)


def test_a_name_of_the_greatest_length(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    atomic_write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.skipif(os.name != "posix", reason="modes, links and devices are POSIX's")
def test_mode_links_and_devices(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "out.txt"
    plain.touch()
    atomic_write_bytes(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    atomic_write_bytes(link, b"through the link")
    assert link.is_symlink()
    assert path.read_bytes() == b"through the link"
    atomic_write_bytes(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    atomic_write_bytes(pipe, b"into the pipe")
    reader.join()
    assert read == [b"into the pipe"]
    assert pipe.is_fifo()


def fill(folder: Path, text: str, *, force: bool = False) -> None:
    with atomic_folder(folder, mark="mark", force=force) as part:
        (part / "mark").write_text(text)
        assert not folder.exists() or not (folder / "mark").exists() or (folder / "mark").read_text() != text


def test_folder_appears_whole(tmp_path: Path) -> None:
    fill(tmp_path / "out", "first")
    assert (tmp_path / "out" / "mark").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "first")
    assert (tmp_path / "out" / "mark").read_text() == "first"


def test_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    fill(tmp_path / "out", "first")

    def fail() -> None:
        with atomic_folder(tmp_path / "out", mark="mark", force=True) as part:
            (part / "mark").write_text("second")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "out" / "mark").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_older_folder_is_replaced_when_forced(tmp_path: Path) -> None:
    fill(tmp_path / "out", "first")
    (tmp_path / "out" / "rest").write_text("of the first")
    with pytest.raises(UsageError, match=r"not empty; .*--force"):
        fill(tmp_path / "out", "second")
    fill(tmp_path / "out", "second", force=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mark"]


def test_folders_that_are_not_ours_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("kept")
    with pytest.raises(UsageError, match="no mark"):
        fill(tmp_path / "other", "new", force=True)
    fill(tmp_path / "out", "first")
    with (
        pytest.raises(UsageError, match="holds what is read"),
        atomic_folder(tmp_path / "out", [tmp_path / "out" / "mark"], "mark", force=True),
    ):
        pass
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(UsageError, match="current"):
        fill(tmp_path / "out", "second", force=True)
    with pytest.raises(UsageError, match="a folder is to be written"):
        fill(tmp_path / "other" / "file", "new")
    with pytest.raises(UsageError, match="does not exist"):
        fill(tmp_path / "no" / "out", "new")
    assert (tmp_path / "other" / "file").read_text() == "kept"
