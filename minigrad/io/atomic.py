"""Replacing a file whole or not at all, durably, whatever happens in between."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from minigrad.errors import CheckpointError

__all__ = ["Replacement", "replacing"]

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed: the lock is not needed there
    fcntl = None

_TEMPORARY = re.compile(r"\.minigrad-(\d{1,9})-[0-9a-f]{16}\.tmp")
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large",
}
_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}


class Replacement:
    """The temporary file that is going to take the old one's place."""

    def __init__(self, fd: int) -> None:
        self._fd, self.position = fd, 0

    def write(self, data: bytes | memoryview) -> None:
        """Appends data."""
        self.position += _write_all(self._fd, data)

    def rewrite(self, position: int, data: bytes) -> None:
        """Puts data in the place of as many bytes written before, from position on."""
        os.lseek(self._fd, position, os.SEEK_SET)
        _write_all(self._fd, data)
        os.lseek(self._fd, self.position, os.SEEK_SET)


def _write_all(fd: int, data: bytes | memoryview) -> int:
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.write(fd, view[done:])
    return done


@contextmanager
def replacing(path: str) -> Iterator[Replacement]:
    """A new file to write to, which replaces the one at path when the block ends well, and vanishes when it does not.

    Raises CheckpointError for what the operating system refuses: then the old file is as it was.
    """
    try:
        target = os.path.realpath(path)  # of a link, what it points to is replaced
        old = _old(target, path)
        folder = os.path.dirname(target)
        _sweep(folder)
        temporary = os.path.join(folder, f".minigrad-{os.getpid()}-{secrets.token_hex(8)}.tmp")
        fd = -1
        try:
            fd = _create(temporary, old)
            yield Replacement(fd)
            os.fsync(fd)
            if fcntl is None:
                os.close(fd)
                fd = -1
            os.replace(temporary, target)
        finally:
            with suppress(OSError):  # it is gone already where all went well
                os.unlink(temporary)
            if fd >= 0:
                with suppress(OSError):  # what is written has been synchronised
                    os.close(fd)  # ends the lock, so it comes last
    except OSError as error:
        raise _refused(path, error) from error
    try:
        _sync_directory(folder)
    except OSError as error:
        raise CheckpointError(
            f"save: {path}",
            f"the new file is in place, but its directory cannot be synchronised: {error.strerror}",
            "a directory entry that outlives a power failure",
            "save again, and check the disk",
        ) from error


def _refused(path: str, error: OSError) -> CheckpointError:
    what = _FULL.get(error.errno or 0)
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        what, fix = "its directory does not exist", "create the directory first, with os.makedirs"
    elif what:
        fix = "free some space, or save to another place"
    else:
        what, fix = "the operating system refused", "check the path and its permissions, or save to another place"
    was = "the file that was there is untouched" if os.path.lexists(path) else "there is no file there, as before"
    return CheckpointError(f"save: {path}", f"{what} ({error.strerror or error}); {was}", "a place to write to", fix)


def _old(target: str, path: str) -> os.stat_result | None:
    """What is known of the file to be replaced; None where there is none."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        kind = "a directory" if stat.S_ISDIR(old.st_mode) else "no regular file"
        raise CheckpointError(f"save: {path}", f"there is {kind}", "a file, or nothing yet", "choose another name")
    if not os.access(target, os.W_OK):  # replacing asks the directory only, and would go over a protected file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return old


def _create(temporary: str, old: os.stat_result | None) -> int:
    """A new, locked file with the owner and the mode of the old one, or those any new file gets."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        fd = os.open(temporary, flags, 0o666 if old is None else 0o600)
        try:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks: nobody sweeps there either
                    fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink == 0:  # swept between the two calls
                    os.close(fd)
                    continue
            if old is not None and hasattr(os, "fchmod"):
                now = os.fstat(fd)
                if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
                    with suppress(PermissionError):
                        os.fchown(fd, old.st_uid, old.st_gid)
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        return fd


def _sweep(folder: str) -> None:
    """Removes what killed processes left behind: files of our name whose process is gone and whose lock is free.

    Process numbers are used again, and two containers on one disk have the same ones: the lock, which ends with
    the process, is what tells. It is held until the file is replaced or removed.
    """
    with os.scandir(folder) as entries:
        found = [(entry.path, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for path, match in found:
        with suppress(OSError):
            if fcntl is None:
                os.unlink(path)
            elif not _alive(int(match[1])):
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                finally:
                    os.close(fd)


def _alive(pid: int) -> bool:
    """Whether another process of this number runs. Our own number says nothing: the last container's was the same."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_directory(folder: str) -> None:
    if os.name != "posix":
        return
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
