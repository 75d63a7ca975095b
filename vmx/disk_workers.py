"""Threads that do the disks' reading and writing, so that no vCPU waits for it: a hw.scsi.wiring.Workers.

A pool that is as wide as WORKERS is; its threads begin with the first piece of work. What is finished is handed over
under the machine's lock by a vCPU's thread. All that has ended by then is handed over at once, so an adapter raises one
interrupt for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from ringfence.errors import HostRefused

WORKERS = 4
Result = TypeVar("Result")


class WorkersHost(Protocol):
    """What the pool needs of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""


class DiskWorkers:
    """`submit` and `drain` are called under the machine's lock, `close` without it."""

    def __init__(self, host: WorkersHost, threads: int = WORKERS) -> None:
        self._host, self._wanted = host, threads
        self._changed = threading.Condition()  # guards what follows
        self._work: deque[Callable[[], None]] = deque()
        self._done: deque[Callable[[], None]] = deque()
        self._running = 0
        self._posted = self._closing = False
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], Result], finished: Callable[[Result], None]) -> None:
        """Raises HostRefused when the host gives not even one thread."""
        with self._changed:
            self._work.append(lambda: self._do(work, finished))
            if len(self._threads) < self._wanted and self._running + len(self._work) > len(self._threads):
                self._add_thread()
            self._changed.notify()

    def drain(self) -> None:
        """Wait until nothing is under way, with what follows from its results."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done or not (self._work or self._running))
                if not self._done:
                    return
            self._deliver()

    def close(self) -> None:
        """End the threads once they have nothing left to do; results that nobody took are dropped. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._done.clear()

    # the threads

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"disk{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise HostRefused(f"disks: the host gives no thread: {error}") from error
            self._wanted = len(self._threads)
            return
        self._threads.append(thread)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closing)
                if not self._work:
                    return
                job = self._work.popleft()
                self._running += 1
            job()
            del job  # with the guest's memory in it

    def _do(self, work: Callable[[], Result], finished: Callable[[Result], None]) -> None:
        try:
            result = work()
        except BaseException as defect:  # noqa: BLE001 - raised again by the thread that runs the machine
            self._hand_over(partial(_raise, defect))
        else:
            self._hand_over(lambda: finished(result))

    def _hand_over(self, delivery: Callable[[], None]) -> None:
        with self._changed:
            self._running -= 1
            self._done.append(delivery)
            self._changed.notify_all()
            if self._posted:
                return
            self._posted = True
        self._host.post(self._deliver)

    # under the machine's lock

    def _deliver(self) -> None:
        with self._changed:
            self._posted = False
            done, self._done = self._done, deque()
        for delivery in done:
            delivery()


def _raise(defect: BaseException) -> None:
    raise defect
