"""What the disk verbs share: sizes as people write them, options of an input, progress on a terminal."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.errors import BadOption

if TYPE_CHECKING:
    from vmkernel.storage.chain import Chain
    from vmkernel.storage.place import Place
    from vmkernel.storage.vmdk.stream_pipe import PipedStream

UNITS = {"": 1, "b": 1, "s": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
SIZE = re.compile(r"(?P<number>\d{1,18}(?:\.\d{1,9})?|0[xX][0-9a-fA-F]{1,16}) ?(?P<unit>[bsBSkmgtpKMGTP]?)(?:i?[bB])?")
SIZE_WORDS = "bytes, or a number with K, M, G, T or s (sectors)"
FORMATS = ("auto", "vmdk", "raw")
STANDARD = "-"  # standard input or output


def size(text: str) -> int:
    """`10G`, `1.5T`, `512`, `0x200`, `2048s` in bytes."""
    found = SIZE.fullmatch(text.strip())
    if found:
        number = found["number"]
        whole = Fraction(int(number, 16) if number[:2] in ("0x", "0X") else number) * UNITS[found["unit"].lower()]
        if whole.denominator == 1:
            return int(whole)
    raise argparse.ArgumentTypeError(f"expected {SIZE_WORDS}, found {text!r}")


def size_text(count: int) -> str:
    """`1.5 GiB`; exact below 10 KiB."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < (10240 if unit == "bytes" else 1024) or unit == "TiB":
            break
        value /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{value:.4g} {unit}"


def place(text: str) -> Place:
    """A file of the host, of a datastore or of a volume."""
    if not text.startswith("[") and ":/" not in text:
        return Path(text)
    from vmkernel.storage.datastores import resolve

    return resolve(text)


def add_input(verb: argparse.ArgumentParser, name: str = "disk", metavar: str = "DISK") -> None:
    """A disk that is read, and what it is to be taken for."""
    verb.add_argument(name, metavar=metavar, type=place, help="a disk image")
    add_format(verb)


def add_format(verb: argparse.ArgumentParser, option: str = "--format", dest: str = "format") -> None:
    verb.add_argument(
        option, dest=dest, choices=FORMATS, default="auto", help="what the image is (auto: as its name says)"
    )


def add_json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="as JSON")


def opened(path: Place, options: argparse.Namespace, *, form: str = "", lock: bool = False) -> Chain:
    """For reading. Without `lock` also what a running machine has: then it is as of no one moment."""
    from vmkernel.storage.formats import Format, open_image

    return open_image(
        path, Format(form or options.format), lock=lock, relaxed=getattr(options, "relaxed", False),
        recover=getattr(options, "recover", False),
    )  # fmt: skip


def warn(chain: Chain | PipedStream) -> None:
    """What a relaxed or recovering opening passed over."""
    for text in chain.warnings:
        sys.stderr.write(f"ringfence: warning: {text}\n")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=None)

        def update(done: int, whole: int) -> None:
            shown.update(task, completed=done, total=whole)

        yield update


def binary_output() -> Callable[[bytes], int | None]:
    """Standard output as bytes. Raises BadOption for a terminal."""
    if sys.stdout.isatty():
        raise BadOption("standard output is a terminal: expected a file or a pipe")
    sys.stdout.flush()
    return sys.stdout.buffer.write
