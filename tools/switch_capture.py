"""`ringfence switch capture`: what passes an uplink, a port group or a port, as pcapng, into a file or a pipe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ringfence.errors import BadOption, HostRefused
from tools.switch_words import kernel_place

STANDARD = "-"
DESCRIPTION = """\
Frames as they pass, until Ctrl-C: `ringfence switch capture "VM Network" | tshark -r -`.
WHAT is the name of an uplink, of a port group, or of a machine's port as `ringfence switch list` shows it; or
uplink:NAME, group:NAME, port:SWITCH/NUMBER. Ports see frames before the switch judges them, uplinks with their tags.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    capture = subparsers.add_parser(
        "capture", help="frames as pcapng, live", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    capture.add_argument("what", metavar="WHAT")
    capture.add_argument("-w", "--write", default=STANDARD, metavar="FILE", help="instead of standard output")
    capture.add_argument("--count", type=count, metavar="N", help="end after so many frames")
    capture.add_argument("--seconds", type=seconds, metavar="S", help="end after this time")
    capture.set_defaults(run=capture_run)


def count(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < len(text) <= 15:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of frames, found {text!r}")


def seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) < 1e9:
            return value
    raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")


def capture_run(options: argparse.Namespace) -> None:
    from vmkernel.host.capture import Capture, connected

    with connected(kernel_place(), options.what) as connection, output(options.write) as out:
        capture = Capture(connection, out)
        try:
            with suppress(KeyboardInterrupt):  # the usual end
                capture.run(options.count, options.seconds)
        finally:
            capture.close()
    lost = f", {capture.lost} lost" if capture.lost else ""
    sys.stderr.write(f"{capture.frames} frames{lost}\n")


@contextmanager
def output(path: str) -> Iterator[BinaryIO]:
    """Raises BadOption for a terminal, HostRefused."""
    if path == STANDARD:
        if sys.stdout.isatty():
            raise BadOption("capture: expected -w FILE or a pipe, found a terminal")
        sys.stdout.flush()
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
            yield out
        return
    try:
        out = open(path, "wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise HostRefused(f"{path}: cannot write: {error.strerror}") from error
    with out:
        yield out
