"""Facts about the host that a number means nothing without."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

LOAD_MAX = 1.0  # processes that compete with the measurement, averaged over the last minute


def cpu_model(cpuinfo: str) -> str:
    """The first processor's name in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown"


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def host_facts() -> dict[str, object]:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    return {
        "cpu": cpu_model(cpuinfo),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_at_start": round(load_average(), 2),
    }
