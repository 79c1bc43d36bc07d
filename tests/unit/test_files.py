"""Files appear whole or not at all, whatever goes wrong on the way."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.errors import InputError
from apexbench.files import ensure_writable_dir, write_bytes_atomic, write_text_atomic


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(first=st.binary(max_size=200), second=st.binary(max_size=200))
def test_last_write_wins_and_leaves_nothing_else(
    tmp_path: Path, first: bytes, second: bytes
) -> None:
    target = tmp_path / "result.json"
    write_bytes_atomic(target, first)
    write_bytes_atomic(target, second)
    assert target.read_bytes() == second
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_utf8_without_newline_translation(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a.txt", "µ\r\né\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ\r\né\n".encode()


def test_new_file_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    target.chmod(0o600)
    write_text_atomic(target, "new")
    assert target.stat().st_mode & 0o777 == 0o600


def test_full_disk_is_one_sentence_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(
        InputError, match=r"^cannot write '.*result\.json': No space left on device"
    ):
        write_text_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_interrupt_while_writing_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomic(tmp_path / "result.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_missing_parent_names_the_directory_to_create(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no directory '.*nowhere'; create it first"):
        write_text_atomic(tmp_path / "nowhere" / "a.json", "x")


def test_directory_as_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a directory; name a file"):
        write_text_atomic(tmp_path, "x")


def test_file_as_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file is in the way"):
        write_text_atomic(tmp_path / "file" / "a.json", "x")


def test_ensure_writable_dir_creates_parents_and_leaves_them_empty(tmp_path: Path) -> None:
    made = ensure_writable_dir(tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b"
    assert list(made.iterdir()) == []


def test_ensure_writable_dir_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="a file is in the way"):
        ensure_writable_dir(tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="UNPROVEN: needs Linux")
def test_ensure_writable_dir_refuses_where_nothing_can_be_made() -> None:
    with pytest.raises(InputError, match=r"^cannot write '/proc/self'"):
        ensure_writable_dir("/proc/self")
