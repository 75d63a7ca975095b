"""The time that heartbeats and locks go by, and the one that files are stamped with.

A host counts its own silence with the time that the machine was suspended: it may have lost its locks then. The silence
of others is counted without, for they may have been suspended together.
"""

from __future__ import annotations

import time


class Clock:
    """Tests give one of their own."""

    def now_us(self) -> int:
        """Microseconds of uptime."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def awake_us(self) -> int:
        """The same without the time that the machine was suspended."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    def seconds(self) -> int:
        """Since 1970."""
        return int(time.time())

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
