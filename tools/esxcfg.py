"""What the esxcfg commands are as processes: 0, or 2 and one line on standard error, as everywhere here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from ringfence.errors import RingfenceError
from tools.process import as_process

STATUS_FAILED = 2


def run_command_line(name: str, action: Callable[[], None]) -> int:
    """The exit status. Whatever cannot be done is one line on stderr."""
    return as_process(lambda: attempt(name, action))


def attempt(name: str, action: Callable[[], None]) -> int:
    try:
        action()
        sys.stdout.flush()
        return 0
    except RingfenceError as error:
        complain(name, str(error))
    except BrokenPipeError:
        pass
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        complain(name, f"{what}the host refused: {error.strerror or error}")
    return STATUS_FAILED


def complain(name: str, text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{name}: {' '.join(text.split())}\n")
        sys.stderr.flush()
