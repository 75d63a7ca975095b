"""`ringfence disk convert` and `compare`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_make import KIND_HELP, add_adapter
from tools.disk_words import STANDARD, add_format, add_json, binary_output, opened, place, progress, size, warn

if TYPE_CHECKING:
    from vmkernel.storage.chain import Chain
    from vmkernel.storage.disk import Disk
    from vmkernel.storage.formats import Target
    from vmkernel.storage.vmdk.stream_pipe import PipedStream

WORKERS_MAX = 256


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    convert = subparsers.add_parser("convert", help="copy a disk, its whole chain, into a new one of any kind")
    convert.add_argument("source", metavar="SOURCE", help="a disk, or - for a stream or bare sectors from a pipe")
    convert.add_argument("target", metavar="TARGET", help="the new disk, or - for a stream or bare sectors to a pipe")
    convert.add_argument("--to", metavar="KIND", help=f"{KIND_HELP}; without it, by TARGET's name")
    add_format(convert)
    add_adapter(convert)
    convert.add_argument("--grain", metavar="SIZE", type=size, help="size of a grain, of the sparse kinds")
    convert.add_argument("--workers", metavar="N", type=workers, help="threads that compress (default: all processors)")
    convert.add_argument("--relaxed", action="store_true", help="pass over a parent that was modified, with a warning")
    convert.add_argument("--recover", action="store_true", help="take what is whole of a stream that was cut short")
    convert.set_defaults(run=convert_run)

    compare = subparsers.add_parser("compare", help="do two disks hold the same? exit status 1: no")
    compare.add_argument("first", metavar="DISK", type=place)
    compare.add_argument("second", metavar="DISK", type=place)
    add_format(compare)
    add_format(compare, "--second-format", "second_format")
    compare.add_argument("--strict", action="store_true", help="different sizes are a difference, also of zeros")
    add_json(compare)
    compare.set_defaults(run=compare_run)


def workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {WORKERS_MAX}, found {text!r}")
    return int(text)


def convert_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.convert import beginning, from_pipe
    from vmkernel.storage.formats import Format, Plain

    check(options)
    if options.source != STANDARD:
        with opened(place(options.source), options, lock=True) as source:
            return convert_from(source, options)
    if os.isatty(0):
        raise BadOption("standard input is a terminal: expected a file or a pipe")
    to_pipe = options.target == STANDARD
    host = not to_pipe and isinstance(place(options.target), Path)
    folder = Path(options.target).parent if host else Path(tempfile.gettempdir())
    start, form = beginning(0, Format(options.format))
    if start and form is Format.RAW and wanted(options) is Plain.RAW:
        return pass_bare(start, options)
    with from_pipe(0, form, folder, start, recover=options.recover) as source:
        return convert_from(source, options)


def wanted(options: argparse.Namespace) -> Target:
    """What the target is to become."""
    from vmkernel.storage.formats import Plain, target, target_for

    if options.to:
        return target(options.to)
    return Plain.STREAM if options.target == STANDARD else target_for(place(options.target).name)


def pass_bare(start: bytes, options: argparse.Namespace) -> int:
    """Bare sectors from a pipe, which stay so."""
    from vmkernel.storage.convert import bare_from_pipe, bare_through

    if options.target == STANDARD:
        binary_output()
        bare_through(0, start, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        bare_from_pipe(0, start, place(options.target))
    return 0


def check(options: argparse.Namespace) -> None:
    """Raises BadOption before anything is read."""
    from vmkernel.storage.formats import Plain, grain_sectors, target

    if options.to is not None:
        kind = target(options.to)
        grain_sectors(kind, options.grain)
        if options.target == STANDARD and not isinstance(kind, Plain):
            raise BadOption(f"--to {options.to}: expected {' or '.join(Plain)} to standard output")


def convert_from(source: Chain | PipedStream, options: argparse.Namespace) -> int:
    from vmkernel.storage.convert import convert
    from vmkernel.storage.formats import Plain, grain_sectors
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    warn(source)
    kind = wanted(options)
    if options.target == STANDARD:
        return to_pipe(source, kind is Plain.RAW, options)
    path = place(options.target)
    with progress(path.name) as shown:
        convert(
            source, path, kind, Adapter(options.adapter), grain_sectors=grain_sectors(kind, options.grain),
            workers=options.workers, progress=shown,
        )  # fmt: skip
    return 0


def to_pipe(source: Disk, bare: bool, options: argparse.Namespace) -> int:
    from vmkernel.storage.convert import write_raw
    from vmkernel.storage.vmdk.descriptor_spec import Adapter
    from vmkernel.storage.vmdk.stream_writer import write_stream

    binary_output()
    out = sys.stdout.buffer
    with progress("standard output") as shown:
        if bare:
            write_raw(source, out, progress=shown)
        else:
            name = "stream.vmdk" if options.source == STANDARD else f"{Path(options.source).stem}.vmdk"
            write_stream(source, out, name, Adapter(options.adapter), workers=options.workers, progress=shown)
    out.flush()
    return 0


def compare_run(options: argparse.Namespace) -> int:
    import json

    from vmkernel.storage.compare import first_difference

    with (
        opened(options.first, options, lock=True) as first,
        opened(options.second, options, form=options.second_format, lock=True) as second,
        progress("compare") as shown,
    ):
        found = first_difference(first, second, shown)
        sizes = first.size_bytes, second.size_bytes
    same = found is None and not (options.strict and sizes[0] != sizes[1])
    if options.json:
        offset = None if found is None else found.offset
        print(json.dumps({"same": same, "offset": offset, "sizes": sizes}, indent=2))
    elif found is not None:
        tail = ", where only the longer one has data" if found.in_tail else ""
        print(f"different at byte {found.offset} (sector {found.offset // 512}){tail}")
    elif sizes[0] != sizes[1]:
        print(f"{'the same' if same else 'different'}: {sizes[0]} and {sizes[1]} bytes, and the rest is zeros")
    else:
        print("the same")
    return 0 if same else 1
