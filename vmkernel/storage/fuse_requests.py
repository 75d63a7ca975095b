"""The requests of a FUSE mount that are under way, and the host's numbers for what goes wrong in them.

The binding calls from several threads at once. What is behind the mount may be closed only when none of them uses it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ringfence.errors import RingfenceError
from vmkernel.storage.errors import Locked, NotWritable, OutOfSpace

Numbers = Sequence[tuple[type[RingfenceError], int]]
NUMBERS: Numbers = ((OutOfSpace, errno.ENOSPC), (NotWritable, errno.EROFS), (Locked, errno.EBUSY))


class Requests:
    """`numbers` are looked at before those that all mounts have; what is in neither is EIO."""

    def __init__(self, numbers: Numbers = ()) -> None:
        self._numbers = (*numbers, *NUMBERS)
        self._in_use = threading.Condition()
        self._under_way = 0
        self._is_closed = False

    def close(self) -> None:
        """None is under way when this returns, and every later one is an error."""
        with self._in_use:
            self._is_closed = True
            self._in_use.wait_for(lambda: not self._under_way)

    @contextmanager
    def request(self) -> Iterator[None]:
        """One of them. Raises OSError for a RingfenceError within, and ESHUTDOWN after `close`."""
        with self._in_use:
            if self._is_closed:
                raise refusal(errno.ESHUTDOWN)
            self._under_way += 1
        try:
            yield
        except RingfenceError as error:
            raise OSError(self.number_of(error), str(error)) from error
        finally:
            with self._in_use:
                self._under_way -= 1
                self._in_use.notify_all()

    def number_of(self, error: RingfenceError) -> int:
        return next((number for kind, number in self._numbers if isinstance(error, kind)), errno.EIO)


def refusal(number: int) -> OSError:
    """In the host's words."""
    return OSError(number, os.strerror(number))
