"""The terminal on a running machine's serial port: a pseudo-terminal or a Unix or TCP socket that the machine offers.

Ctrl-A X leaves, and the machine runs on.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import termios
import tty
from contextlib import suppress

from ringfence.errors import BadOption, HostRefused
from vmx.machine_config import PortKind, PortSpec
from vmx.terminal import EscapeKeys, RawTerminal

READ_BYTES = 4096
ATTACHABLE = frozenset({PortKind.PTY, PortKind.UNIX_SERVER, PortKind.TCP_SERVER})
LEAVE_HELP = "Ctrl-A X leaves; the machine runs on."


def open_port(serial: str) -> int:
    """A descriptor for `pty:PATH`, `unix:PATH` or `tcp:HOST:PORT`. Raises BadOption and HostRefused."""
    word, _, where = serial.partition(":")
    if word == PortKind.PTY.value and where:
        return open_pty(serial, where)
    try:
        if word == PortKind.UNIX_SERVER.value and where:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(where)
                return connection.detach()
        if word == PortKind.TCP_SERVER.value:
            host, _, port = PortSpec.parse(serial, "serial").where.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), timeout=None).detach()
    except OSError as error:
        raise HostRefused(f"{serial}: cannot connect: {error.strerror or error}") from error
    raise BadOption(f"serial port on {serial or 'nothing'}: expected a pty, unix or tcp one to attach to")


def open_pty(serial: str, where: str) -> int:
    """A pseudo-terminal in raw mode. Raises HostRefused."""
    try:
        fd = os.open(where, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise HostRefused(f"{serial}: cannot open: {error.strerror}") from error
    try:
        tty.setraw(fd)
    except termios.error as error:
        os.close(fd)
        raise HostRefused(f"{serial}: no terminal: {error.args[-1]}") from error
    return fd


def attach(serial: str) -> None:
    """Until the person leaves or the machine goes away. The terminal is as before afterwards."""
    port = open_port(serial)
    terminal = RawTerminal(0)
    left: list[bool] = []

    def say(text: str) -> None:
        os.write(2, text.replace("\n", "\r\n").encode())

    keys = EscapeKeys(lambda: left.append(True), say)
    if terminal.usable:
        say(LEAVE_HELP + "\n")
    sys.stdout.flush()
    terminal.enter()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(port, selectors.EVENT_READ)
            with suppress(PermissionError):  # epoll takes no plain file: then there is no input
                selector.register(0, selectors.EVENT_READ)
            while not left and _pass_on(selector, port, keys if terminal.usable else None):
                pass
    finally:
        terminal.leave()
        os.close(port)


def _pass_on(selector: selectors.BaseSelector, port: int, keys: EscapeKeys | None) -> bool:
    """What there is, both ways. False when the machine's end has gone."""
    for key, _ in selector.select():
        try:
            data = os.read(key.fd, READ_BYTES)
        except OSError:
            data = b""
        if key.fd == port:
            if not data:
                return False
            write_all(1, data)
        elif not data:
            selector.unregister(0)  # no more input, but the output is still wanted
        else:
            try:
                write_all(port, keys.filter(data) if keys else data)
            except OSError:
                return False
    return True


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
