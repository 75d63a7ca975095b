"""Unix sockets that a killed process has left in the file system."""

from __future__ import annotations

import errno
import socket
from pathlib import Path


def remove_dead_socket(path: Path) -> None:
    """A socket that nobody listens on any more, as a killed process leaves it behind."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
