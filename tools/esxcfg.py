"""What the esxcfg commands are as processes: 0, or 2 and one line on standard error, as everywhere here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from ringfence.errors import RingfenceError
from tools.process import die_of, flush_output, open_standard_streams
from vmx.ending import EndedBySignal, ending_signals

STATUS_FAILED, STATUS_INTERRUPTED = 2, 130


def run_command_line(name: str, action: Callable[[], None]) -> int:
    """The exit status. Whatever cannot be done is one line on stderr."""
    open_standard_streams()
    try:
        with ending_signals():
            return attempt(name, action)
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    except EndedBySignal as ended:
        return die_of(ended.number)
    finally:
        flush_output()


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
