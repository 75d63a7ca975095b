"""Runs an examination of seeds on every processor until the time is over or there are enough; for run_*.py.

Memory is limited, so that an allocation which what is examined could make as large as it likes fails.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

BATCH = 2000
MEMORY_BYTES = 1 << 30
IN_MEMORY = Path("/dev/shm")
Examine = Callable[[Path, range], None]  # in a folder of its own; raises what went wrong


def prepare() -> None:
    """A process that examines."""
    os.fsync = os.fdatasync = os.fstat  # type: ignore[assignment]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """What keeps the processor longer than this is stuck; a host that is busy with something else fails nothing."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def examined(seeds: range, examine: Examine) -> str:
    """What went wrong, or nothing."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as folder:
        try:
            examine(Path(folder), seeds)
        except Exception:  # noqa: BLE001 - told by the process that started this one
            return traceback.format_exc()
    return ""


def batches(first: int, count: int | None, end: float) -> Iterator[range]:
    """Seeds until the time is over, or there are enough."""
    last = sys.maxsize if count is None else first + count
    while first < last and time.monotonic() < end:
        yield range(first, min(first + BATCH, last))
        first += BATCH


def examine_all(seeds: Iterator[range], jobs: int, examine: Examine) -> tuple[int, str]:
    """How many were examined, and the first trouble."""
    done, trouble = 0, ""
    with ProcessPoolExecutor(jobs, get_context("fork"), prepare) as pool:
        submit = partial(pool.submit, examined, examine=examine)
        running: dict[Future[str], range] = {submit(batch): batch for batch in islice(seeds, jobs)}
        while running:
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                batch = running.pop(ended)
                trouble = trouble or ended.result()
                done += len(batch)
                following = None if trouble else next(seeds, None)
                if following is not None:
                    running[submit(following)] = following
    return done, trouble


def parser(description: str | None, count: str, first: int) -> argparse.ArgumentParser:
    """`count` is the option that says how many: its value is `count` in what is parsed."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, help=f"how long to fuzz (default: 600, or until {count} are done)")
    options.add_argument(count, dest="count", type=int, help="how many")
    options.add_argument("--first", type=int, default=first, help="the first seed (%(default)s)")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    options.add_argument("--seed", type=int, help="this one only")
    return options


def run(options: argparse.Namespace, examine: Examine, what: str) -> int:
    """The status to end with."""
    if options.seed is not None:
        options.first, options.count, options.jobs = options.seed, 1, 1
    if options.seconds is None:
        options.seconds = 600.0 if options.count is None else float("inf")
    seeds = batches(options.first, options.count, time.monotonic() + options.seconds)
    done, trouble = examine_all(seeds, options.jobs, examine)
    sys.stdout.write(f"{trouble}{done} damaged {what}\n")
    return 1 if trouble else 0
