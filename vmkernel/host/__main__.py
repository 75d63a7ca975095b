"""`python -m vmkernel.host DIRECTORY CONFIGURATION [--stay]`: the VMkernel's process, which others start.

It closes its standard error when it listens; what goes wrong before is one line there, and afterwards in kernel.log.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.host.kernel import Kernel, listen
from vmkernel.host.messages_layout import LOCK_NAME, LOG_NAME, SOCKET_NAME
from vmkernel.net.network_file import NetworkFile

LOCK_S, LOOK_S = 10.0, 0.02


def main(arguments: list[str]) -> int:
    directory, configuration = Path(arguments[0]), Path(arguments[1])
    try:
        lock = take_lock(directory / LOCK_NAME)
        path = directory / SOCKET_NAME
        try:
            listener = listen(path)
        except OSError as error:
            raise HostRefused(f"{path}: cannot listen: {error.strerror or error}") from error
        try:
            kernel = Kernel(listener, NetworkFile(configuration), stay="--stay" in arguments[2:])
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a descriptor for each port
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: kernel.stop())
        settle(directory / LOG_NAME)
    except RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        kernel.run()
    finally:
        with suppress(OSError):
            path.unlink()  # first, so that who comes now starts another
        kernel.close()
        os.close(lock)
    return 0


def take_lock(path: Path) -> int:
    """There is one at a time; one that is about to end has a moment. Raises HostRefused."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostRefused(f"{path}: cannot lock: {error.strerror}") from error
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise HostRefused(f"{path}: another VMkernel is running") from None
            time.sleep(LOOK_S)


def settle(log: Path) -> None:
    """It runs: standard error goes to the log from here on."""
    sys.stderr.flush()
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
