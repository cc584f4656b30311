"""A lock on the folder of a run, which keeps two runs from training there at once."""

from __future__ import annotations

import errno
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from diffjax.config import ConfigError
from diffjax.files import reason
from diffjax.io.writing import writing

HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""Errors of a lock that another process holds; other errors mean that locks are not supported."""
FAR = 2**30
"""Offset of a byte of the lock file that is never written."""


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Create the folder, and lock it against other runs while this run trains there.

    The operating system releases the lock, however the process exits. A file system without locks
    gives a warning of one line. Raises ConfigError where another process holds the lock, naming the
    process, and where the folder cannot be written.
    """
    with writing(f"--workdir={workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("a+")
    with file:
        try:
            _take(file)
        except OSError as error:
            if error.errno not in HELD:
                logging.warning("%s: cannot be locked (%s)", workdir, reason(error))
                yield
                return
            file.seek(0)
            holder = file.read() or error.strerror
            raise ConfigError(
                f"--workdir={workdir}: another run is training there ({holder}); use another "
                f"workdir, or wait until it finishes"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _take(file: IO[str]) -> None:
    """Lock a file for this process alone, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        # Other processes cannot read a locked byte on Windows, and the first bytes name the holder.
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
