"""Frames that a device has no room for now: a bounded queue in front of it, so that a burst is not lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

FRAMES_MAX = 1024


class Outbox:
    """`put` hands a frame to the device, and raises BlockingIOError when that has no room."""

    __slots__ = ("_frames", "_put")

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self._frames: deque[bytes] = deque()

    def __bool__(self) -> bool:
        """Does something wait for room?"""
        return bool(self._frames)

    def send(self, frame: bytes) -> bool:
        """False: the queue is full, and the frame is lost. Raises what the device raises."""
        if not self._frames:
            try:
                self._put(frame)
            except BlockingIOError:
                self._frames.append(frame)
            return True
        if len(self._frames) >= FRAMES_MAX:
            return False
        self._frames.append(frame)
        return True

    def flush(self) -> None:
        """There may be room. Raises what the device raises."""
        try:
            while self._frames:
                self._put(self._frames[0])
                self._frames.popleft()
        except BlockingIOError:
            pass

    def clear(self) -> None:
        self._frames.clear()
