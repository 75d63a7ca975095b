"""Threads that do the disks' reading and writing, so that no vCPU waits for it: a hw.scsi.wiring.Workers.

A pool that is as wide as WORKERS is; its threads begin with the first piece of work. What is finished is handed over
under the machine's lock by a vCPU's thread. All that has ended by then is handed over at once, so an adapter raises one
interrupt for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
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
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends a thread
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._under_way = 0  # submitted and not delivered; like what follows, only looked at under the machine's lock
        self._threads: list[threading.Thread] = []
        self._posted = False

    def submit(self, work: Callable[[], Result], finished: Callable[[Result], None]) -> None:
        """Raises HostRefused when the host gives not even one thread."""
        if len(self._threads) < self._wanted and self._under_way >= len(self._threads):
            self._add_thread()
        self._under_way += 1
        self._work.put(lambda: self._do(work, finished))

    def drain(self) -> None:
        """Wait until nothing is under way, with what follows from its results."""
        while self._under_way:
            self._take()

    def close(self) -> None:
        """End the threads once they have nothing left to do; results that nobody took are dropped. Idempotent."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._work.put(None)
        for thread in threads:
            thread.join()
        self._done, self._under_way = SimpleQueue(), 0

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
        while (job := self._work.get()) is not None:
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
        self._done.put(delivery)
        if not self._posted:  # else whoever was posted has still to look
            self._posted = True
            self._host.post(self._deliver)

    # under the machine's lock

    def _deliver(self) -> None:
        self._posted = False  # first: what ends from here on is looked for again
        while not self._done.empty():  # nobody else takes from it
            self._take()

    def _take(self) -> None:
        """Wait for a result, and deliver it."""
        delivery = self._done.get()
        self._under_way -= 1
        delivery()


def _raise(defect: BaseException) -> None:
    raise defect
