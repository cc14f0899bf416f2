"""Files that are whole or absent, and folders with one writer: everything that is written goes through `replacing`."""

import errno
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpgen.errors import UserError

# of the disk or the name, so the user's to mend
_UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT,
}  # fmt: skip

HALF_WRITTEN = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` on a clean exit and is removed otherwise.

    A process that is killed leaves a hidden `.tmp` file, which nobody reads and `sweep` removes.

    Raises:
        UserError: the disk is full or read-only, or the name cannot be that of a file.
    """
    half_written = path.with_name(f".{secrets.token_hex(8)}.tmp")  # not of its name, which may be as long as can be
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield half_written
        os.replace(half_written, path)
    except (OSError, UnicodeEncodeError) as error:
        raise _as_user_error(path, half_written, error) from error
    finally:
        if half_written.exists():
            half_written.unlink()


def permit(path: Path) -> None:
    """Gives a file the permissions of any other new one; safetensors writes for its owner alone, whatever the umask."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file; where it says so already nothing is written, so that a read-only disk will do."""
    try:
        if path.read_bytes() == text.encode():
            return
    except OSError:
        pass
    with replacing(path) as half_written:
        half_written.write_bytes(text.encode())


def sweep(folder: Path, older_than_seconds: float = 3600.0) -> int:
    """Removes what killed processes left of `replacing` below a folder; returns how many files.

    Those of processes that still write are younger.
    """
    swept, now = 0, time.time()
    for path in folder.rglob(".*.tmp"):
        try:
            if HALF_WRITTEN.fullmatch(path.name) and now - path.stat().st_mtime > older_than_seconds:
                path.unlink()
                swept += 1
        except OSError:  # another one has just removed it, or it is not ours to remove
            continue
    return swept


@contextmanager
def sole_writer(folder: Path, work: str) -> Iterator[None]:
    """Holds a folder alone; whoever comes second waits for the first, and says for whom.

    The lock is the operating system's and ends with the process, however that ends.

    Args:
        folder: made if missing; holds the lock file `.writer`.
        work: what is done in it, for those who wait, such as "renders a world".
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".writer").open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(f"{folder}: waits for another process, which {lock.read().strip()}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # some network disks
            print(f"{folder}: cannot be locked ({error.strerror}); let no other process write to it", file=sys.stderr)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{work} (process {os.getpid()} on {socket.gethostname()})\n")
        lock.flush()
        yield


def _as_user_error(path: Path, half_written: Path, error: OSError | UnicodeEncodeError) -> Exception:
    """What failed in writing `path` is the user's to mend; another file's error is passed on."""
    if isinstance(error, UnicodeEncodeError):
        return UserError(f"{path}: its name is not valid Unicode") if error.object in str(path) else error
    ours = error.filename in (None, str(half_written), str(path), str(path.parent), half_written, path)
    if ours and error.errno in _UNWRITABLE:
        return UserError(f"{path}: cannot be written: {error.strerror}")
    return error
