"""The host's clocks, as the machine's devices ask for them."""

from __future__ import annotations

import re
import time
from pathlib import Path

DEFAULT_TSC_HZ = 1_000_000_000
CPUINFO = Path("/proc/cpuinfo")


class HostWallClock:
    """UTC and the local zone of the host."""

    def now_ns(self) -> int:
        return time.time_ns()

    def zone_minutes(self) -> int:
        return time.localtime().tm_gmtoff // 60


def host_tsc_hz(cpuinfo: Path = CPUINFO) -> int:
    """The host processor's nominal frequency, which a guest's TSC takes over; 1 GHz where the host does not say."""
    try:
        found = re.search(r"^cpu MHz\s*:\s*(\d+)", cpuinfo.read_text(), re.M)
    except OSError:
        found = None
    return int(found.group(1)) * 1_000_000 if found else DEFAULT_TSC_HZ
