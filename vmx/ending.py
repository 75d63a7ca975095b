"""Signals that end the process: they unwind it, so that files, sockets, children and the terminal are given back.

A handler's exception is lost when it falls into code that C called and that drops errors, as imports and ctypes do. So
the signal is remembered too, and the loop that runs a machine asks for it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

UNTOUCHED = (signal.SIG_DFL, signal.default_int_handler)  # what is ignored, as under nohup(1), stays so
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []
_waiting: list[bool] = []  # an entry for each signals_wait that is under way


class EndedBySignal(BaseException):
    """Raised where the signal falls; the command dies of the same signal once all is given back."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise EndedBySignal, SIGINT raises KeyboardInterrupt."""
    _received.clear()
    before = {}
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) in UNTOUCHED:
            before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_received() -> None:
    """Raise once more for a signal whose exception was lost."""
    if _received:
        _raise(_received.pop())


@contextmanager
def signals_wait() -> Iterator[None]:
    """For what must not be cut short: a signal that falls into it is raised at its end. On the main thread."""
    _waiting.append(True)
    try:
        yield
    finally:
        _waiting.pop()
    if not _waiting:
        raise_received()


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if not _waiting:
        _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise EndedBySignal(number)
