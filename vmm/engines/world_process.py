"""The process behind a world: started from the image in the extension, watched, ended and reaped."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import sizeof

from ringfence.errors import HostRefused
from vmm._core import ffi, lib
from vmm.layout_spec import WorldPage

NOT_STARTED = 127  # exit status of a child that could not become a world

# Worlds die with the thread that started them, so this one starts them all and lasts as long as this process.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worlds")


def shared_page(size: int = sizeof(WorldPage)) -> tuple[int, mmap.mmap]:
    """A zeroed memfd of `size` bytes, for a struct world_page unless told, and our mapping of it."""
    try:
        fd = os.memfd_create("ringfence-world-page", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return fd, mmap.mmap(fd, size)
    except OSError as error:
        raise HostRefused(f"a world's page of {size} bytes: {error.strerror}") from error


def start(page_fd: int, inherited: Sequence[int], role: str = "") -> WorldProcess:
    """A new world that finds its page in `page_fd` and keeps these descriptors. Raises HostRefused.

    `role` goes before the descriptor's number in its argument: "probe=" makes it a probe of the host.
    """
    return _starter.submit(_start, page_fd, inherited, role).result()


def _start(page_fd: int, inherited: Sequence[int], role: str) -> WorldProcess:
    try:
        image = os.memfd_create("ringfence-world", os.MFD_CLOEXEC)
    except OSError as error:
        raise HostRefused(f"a world's program: the host gives no memfd: {error.strerror}") from error
    try:
        left = memoryview(ffi.buffer(lib.world_image, lib.world_image_size))
        while left:
            left = left[os.write(image, left) :]
        fds = [page_fd, *inherited]
        pid = lib.world_spawn(image, fds, len(fds), f"{role}{page_fd}".encode())
    except OSError as error:
        raise HostRefused(f"a world's program: {error.strerror}") from error
    finally:
        os.close(image)
    if pid < 0:
        raise HostRefused(f"a world's process: {os.strerror(-pid)}")
    return WorldProcess(pid)


class WorldProcess:
    """A child that is to be reaped once. `ended` is None, or its wait status."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: int | None = None
        self.pidfd = os.pidfd_open(pid)  # -1 once its end has been seen to

    def has_ended(self) -> bool:
        """Look, and reap it if so."""
        if self.ended is None:
            self._reap(os.WNOHANG)
        return self.ended is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end. False when it did not come in time."""
        if self.ended is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        return self.has_ended()

    def end(self) -> None:
        """Kill it unless it has ended, and give everything back. A second call does nothing."""
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap(0)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def why(self) -> str:
        """How it ended, for a person."""
        if self.ended is None:
            return "it still runs"
        if os.WIFSIGNALED(self.ended):
            number = os.WTERMSIG(self.ended)
            return f"killed by signal {number} ({signal.strsignal(number)})"
        status = os.WEXITSTATUS(self.ended)
        return "the host would not run its program" if status == NOT_STARTED else f"it left with status {status}"

    def _reap(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # somebody else reaped it, or SIGCHLD is ignored
            pid, status = self.pid, 0
        if pid:
            self.ended = status
