"""Writing files so that they are whole or absent; not a cache and not a format."""

import contextlib
import os
import tempfile
from pathlib import Path

from apexbench.errors import InputError

# What a plain open() would give before the umask; a temporary file starts private instead.
_NEW_FILE_MODE = 0o666


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path`; a reader sees the old file or the new one, never a part.

    A device or pipe is written to, never replaced. InputError says in one sentence why it could
    not be written; a file is then as it was.
    """
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` by way of a synced temporary file in the same directory.

    InputError: no space, no permission, no parent directory, or `path` is a directory.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"cannot write '{target}': it is a directory; name a file")
    try:
        if is_special(target):
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        raise _cannot_write(target, error) from error


def is_special(path: Path) -> bool:
    """A device, pipe or socket: putting a file in its place would break whoever relies on it."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_target(path: str | Path) -> None:
    """InputError unless a file (or device) at `path` can be expected to take a write."""
    if not is_special(Path(path)):
        ensure_writable_dir(Path(path).absolute().parent)


def ensure_writable_dir(path: str | Path) -> Path:
    """Create directory `path` if need be and prove by a trial that files can be made in it.

    Call it before a long run, so that the run cannot end with nowhere to put its result.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _cannot_write(directory, error) from error
    return directory


def _replace(target: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode_for(target))
        temporary.replace(target)
    except BaseException:  # an interrupt must not leave the temporary file behind either
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _mode_for(target: Path) -> int:
    """The mode of the file being replaced, else what the umask leaves of a new file's."""
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return _NEW_FILE_MODE & ~umask


def _cannot_write(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        reason = f"there is no directory '{path.parent}'; create it first"
    elif isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file is in the way; name another place"
    return InputError(f"cannot write '{path}': {reason}")
