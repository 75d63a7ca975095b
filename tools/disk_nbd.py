"""`ringfence disk nbd`: serve a disk to NBD clients, on a Unix socket or a port of the loopback interface."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tools.disk_source import add_snapshot, open_source
from tools.disk_words import add_input

LOOPBACK = "127.0.0.1"
PORT_MAX = 65535
BACKLOG = 64
NAME_BYTES_MAX = 256
DESCRIPTION = """\
Serve a disk, a chain or a snapshot to NBD clients until Ctrl-C, SIGTERM, or with --once until the last client has left.
The first line says the address: `nbdinfo`, `nbdcopy`, `qemu-img`, `qemu-io` and others take it as it stands.
"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """`nbd`, and `mount`."""
    from tools.disk_mount import add_mount_parser

    nbd = subparsers.add_parser(
        "nbd", help="serve a disk over the NBD protocol", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_input(nbd)
    where = nbd.add_mutually_exclusive_group()
    where.add_argument("--socket", type=Path, metavar="PATH", help="a Unix socket (default: one of its own, see below)")
    where.add_argument("--port", type=port, metavar="N", help=f"a TCP port of {LOOPBACK}; 0: any free one")
    nbd.add_argument("--read-only", action="store_true", help="clients may not write, and others may read meanwhile")
    nbd.add_argument("--once", action="store_true", help="end when the last client has left")
    nbd.add_argument("--name", default="", metavar="EXPORT", help="the export's name; the empty name is served too")
    add_snapshot(nbd)
    nbd.set_defaults(run=nbd_verb)
    add_mount_parser(subparsers)


def port(text: str) -> int:
    """The value of --port."""
    if text.isascii() and text.isdigit() and int(text) <= PORT_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a port number, found {text!r}")


def nbd_verb(options: argparse.Namespace) -> int:
    from vmkernel.storage.nbd.export import Export
    from vmkernel.storage.nbd.server import NbdServer
    from vmx.ending import signals_wait

    if len(os.fsencode(options.name)) > NAME_BYTES_MAX:
        raise BadOption(f"--name: expected at most {NAME_BYTES_MAX} bytes")
    disk = open_source(options, writable=not options.read_only and options.snapshot is None)
    try:
        with listening(options) as (listener, address):
            export = Export(disk, options.name, options.disk.name)
            server = NbdServer(export, listener, once=options.once)
            try:
                print(address, flush=True)
                server.serve()
            finally:
                with signals_wait():
                    server.close()
        if server.trouble:
            raise RingfenceError(f"NBD: a connection was dropped: {server.trouble}")
    finally:
        with signals_wait():
            disk.close()
    return 0


@contextmanager
def listening(options: argparse.Namespace) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and its URI. Raises HostRefused."""
    name = quote(options.name, safe="")
    if options.port is not None:
        with tcp_listener(options.port) as listener:
            yield listener, f"nbd://{LOOPBACK}:{listener.getsockname()[1]}/{name}"
        return
    path = options.socket or default_socket()
    with unix_listener(path) as listener:
        yield listener, f"nbd+unix:///{name}?socket={quote(str(path.absolute()), safe='/')}"


def default_socket() -> Path:
    """In the directory for sockets, which is closed to others."""
    from vmx.registry import Registry

    return Registry.of_user().directory / f"nbd-{os.getpid()}.sock"


def tcp_listener(number: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, number), backlog=BACKLOG)
    except OSError as error:
        raise HostRefused(f"{LOOPBACK}:{number}: cannot listen: {os.strerror(error.errno or 0)}") from error


@contextmanager
def unix_listener(path: Path) -> Iterator[socket.socket]:
    """For this user alone; its name is removed at the end, if it still is this socket's."""
    from vmx.dead_socket import remove_dead_socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            remove_dead_socket(path)
            os.fchmod(listener.fileno(), 0o600)  # the name gets this mode as it comes into being
            listener.bind(str(path))
            made = path.stat()
            listener.listen(BACKLOG)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise HostRefused(f"{path}: cannot listen: {reason}") from error
        try:
            yield listener
        finally:
            with suppress(OSError):
                if (now := path.stat()) and (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    path.unlink()
