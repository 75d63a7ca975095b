"""The process around a verb: standard streams that exist, one line for what goes wrong, and the end by a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from vmx.ending import EndedBySignal, ending_signals

STATUS_INTERRUPTED = 130


def as_process(act: Callable[[], int]) -> int:
    """A console script around `act`, which returns the exit status: this one's, too."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy multiplies no matrices here: spare its threads
    open_standard_streams()
    try:
        with ending_signals():
            try:
                return act()
            finally:
                close_volumes()
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    except EndedBySignal as ended:
        return die_of(ended.number)
    finally:
        flush_output()


def open_standard_streams() -> None:
    """Whoever started us may have closed some. A closed one would be the number of the next file that is opened."""
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open as long as the process is
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    with suppress(AttributeError):  # a test's stand-in
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a guest's screen in an ASCII locale


def die_of(number: int) -> int:
    """As our parent expects of a process that was signalled. Returns a shell's status for it if we live on."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def close_volumes() -> None:
    """Those that were opened for the verb: before the process dies of a signal, which runs nothing at exit."""
    if (stores := sys.modules.get("vmkernel.storage.vmfs_store")) is not None:
        stores.close_volumes()


def complain(text: str) -> None:
    """One line on stderr; there is nobody to tell when that fails."""
    with suppress(OSError):
        sys.stderr.write(f"ringfence: {' '.join(text.split())}\n")
        sys.stderr.flush()


def flush_output() -> None:
    """What nobody takes any more is dropped here, for Python would be loud about it when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, stream.fileno())
            os.close(sink)
