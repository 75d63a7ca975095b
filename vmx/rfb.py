"""The remote screen: an RFB (VNC) server for one machine, with which any VNC client sees and operates it.

One thread serves all clients. It holds the machine's lock only while the picture is drawn, and looks for changes only
while a client waits for some. A client that sends what no client sends, stops reading, or stays silent before it has
logged in is dropped with one line in the log, and several wrong passwords close the door for a while.
Source: RFC 6143; security, encodings and messages are listed in vmx.rfb_session.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import secrets
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ringfence.errors import BadInput, BadOption, HostRefused
from vmx.dead_socket import remove_dead_socket
from vmx.rfb_auth import password_bytes
from vmx.rfb_frame import Frame, PictureSource
from vmx.rfb_session import Desktop, InputSink, RfbSession
from vmx.rfb_spec import CHALLENGE_BYTES

CLIENTS_MAX = 16
READ_BYTES = 1 << 16
PICTURE_INTERVAL_S = 0.04
PICTURE_INTERVAL_S_MAX = 0.25
DRAWING_SHARE = 5  # one part of so many is spent drawing, with the machine held
LOGIN_S = 120.0  # a person is asked for the password meanwhile
STALLED_S = 30.0
CHECK_INTERVAL_S = 1.0
WRONG_PASSWORDS_MAX = 5
LOCKED_OUT_S = 10.0  # and twice as long each time after that
LOCKED_OUT_S_MAX = 60.0  # so that nobody is kept out for long by another's attempts
LOG_LINES_MAX, LOG_PERIOD_S = 100, 60.0
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Where(NamedTuple):
    """A TCP host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: Path | None

    def is_private(self) -> bool:
        with contextlib.suppress(ValueError):
            return self.path is not None or ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


def parse_where(text: str) -> Where:
    """"5901" and ":5901" are on 127.0.0.1; "HOST:PORT", "[::1]:PORT"; "unix:PATH". Port 0: any free one."""
    if text.startswith("unix:") and text != "unix:":
        return Where("", 0, Path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not port.isascii() or not port.isdigit() or int(port) > 0xFFFF or (":" in host and not is_bracketed):
        raise BadOption(f"remote screen {text!r}: expected PORT, HOST:PORT or unix:PATH")
    return Where(host.strip("[]") if colon and host else "127.0.0.1", int(port), None)


@dataclass(slots=True)
class Client:
    """A connection. `moved` is when it last made progress."""

    socket: socket.socket
    name: str
    session: RfbSession
    connected: float
    moved: float
    announced: bool = False


@dataclass(slots=True)
class Door:
    """Counts wrong passwords, whoever gave them."""

    wrong: int = 0
    locked_s: float = LOCKED_OUT_S
    locked_until: float = 0.0

    def wrong_password(self, now: float) -> None:
        self.wrong += 1
        if self.wrong >= WRONG_PASSWORDS_MAX:
            self.wrong, self.locked_until = 0, now + self.locked_s
            self.locked_s = min(2 * self.locked_s, LOCKED_OUT_S_MAX)

    def right_password(self) -> None:
        self.wrong, self.locked_s = 0, LOCKED_OUT_S


@dataclass(slots=True)
class QuietLog:
    """No client can fill the log: of many lines in a short time the rest are counted."""

    write: Callable[[str], None]
    lines: int = 0
    since: float = field(default_factory=time.monotonic)

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        if now - self.since >= LOG_PERIOD_S:
            if self.lines > LOG_LINES_MAX:
                self.write(f"remote screen: {self.lines - LOG_LINES_MAX} more lines like these were left out")
            self.lines, self.since = 0, now
        self.lines += 1
        if self.lines <= LOG_LINES_MAX:
            self.write(line)


class RfbServer:
    """The server. `log` gets lines, from its thread; `input` and `source` are entered from it too."""

    def __init__(
        self, where: str | Where, password: str | None, source: PictureSource, input: InputSink,  # noqa: A002
        lock: threading.Lock, log: Callable[[str], None], name: str = "Ringfence",
    ) -> None:  # fmt: skip
        """Raises BadOption. `password` None: anyone who can connect may; only where none but this host's users can."""
        self.where = parse_where(where) if isinstance(where, str) else where
        if password is None and not self.where.is_private():
            raise BadOption(f"remote screen on {self.where.host}: expected a password, since other hosts can connect")
        secret = None if password is None else password_bytes(password)
        self._desktop = Desktop(name, secret, Frame(source, lock), input)
        self._log = QuietLog(log)
        self._door = Door()
        self._clients: dict[int, Client] = {}
        self._closing = False
        self._next_picture = 0.0
        self._listener: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wake_read, self._wake_write = -1, -1
        self._thread = threading.Thread(target=self._serve, name="rfb", daemon=True)

    @property
    def address(self) -> str:
        """Where clients connect, once started: HOST:PORT or the socket's path."""
        if self._listener is None or self.where.path is not None:
            return str(self.where.path or f"{self.where.host}:{self.where.port}")
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Raises HostRefused when the address is taken or cannot be."""
        self._listener = listen(self.where)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._give_back()
            raise HostRefused(f"remote screen: the host gives no thread: {error}") from error

    def close(self) -> None:
        """Idempotent; also when never started. Not to be called with the machine's lock held."""
        if self._closing or self._listener is None:
            return
        self._closing = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._give_back()

    # the thread

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._round()
        finally:
            for client in list(self._clients.values()):
                self._drop(client, "")

    def _give_back(self) -> None:
        assert self._listener is not None and self._selector is not None
        self._selector.close()
        self._listener.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        if self.where.path is not None:
            with contextlib.suppress(OSError):
                self.where.path.unlink()

    def _round(self) -> None:
        assert self._selector is not None
        for key, events in self._selector.select(self._patience()):
            client = self._clients.get(key.fd)
            if key.fileobj is self._listener:
                self._accept()
            elif client is not None and client.socket is key.fileobj:
                if events & selectors.EVENT_READ:
                    self._read(client)
                if events & selectors.EVENT_WRITE and key.fd in self._clients:
                    self._write(client)
        self._send_pictures()
        self._look_for_stalled()

    def _patience(self) -> float | None:
        if not self._clients:
            return None
        if any(client.session.wants_picture() for client in self._clients.values()):
            return max(0.0, min(PICTURE_INTERVAL_S, self._next_picture - time.monotonic()))
        return CHECK_INTERVAL_S

    def _accept(self) -> None:
        assert self._listener is not None and self._selector is not None
        try:
            accepted, peer = self._listener.accept()
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                self._log(f"remote screen: a client could not be accepted: {error.strerror}")
                time.sleep(PICTURE_INTERVAL_S)  # it stays in the queue, and would be tried again at once
            return
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else f"client on {self.where.path}"
        now = time.monotonic()
        if len(self._clients) >= CLIENTS_MAX:
            self._log(f"remote screen: {name}: turned away, {CLIENTS_MAX} clients are connected")
            accepted.close()
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = "Too many wrong passwords; try again later" if now < self._door.locked_until else ""
        self._poll(now)
        session = RfbSession(self._desktop, f"remote screen: {name}", secrets.token_bytes(CHALLENGE_BYTES), refusal)
        client = Client(accepted, name, session, now, now)
        self._clients[accepted.fileno()] = client
        self._selector.register(accepted, selectors.EVENT_READ)
        self._write(client)

    def _read(self, client: Client) -> None:
        session = client.session
        try:
            data = client.socket.recv(READ_BYTES)
            if not data:
                self._drop(client, "left" if session.is_ready else "left before it was let in")
                return
            session.received(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(client, f"lost: {error.strerror}")
            return
        except BadInput as error:
            self._log(f"{error}; dropped")
            self._drop(client, "")
            return
        if session.gave_wrong_password:
            session.gave_wrong_password = False
            self._door.wrong_password(time.monotonic())
        elif session.is_ready and not client.announced:
            self._announce(client)
        self._write(client)

    def _announce(self, client: Client) -> None:
        """It is let in. One that wants the screen for itself gets it. [RFC 6143, 7.3.1]"""
        client.announced = True
        self._door.right_password()
        version = ".".join(map(str, client.session.version))
        self._log(f"remote screen: {client.name}: connected, RFB {version}")
        if client.session.is_exclusive:
            for other in list(self._clients.values()):
                if other is not client and other.announced:
                    self._drop(other, f"closed, since {client.name} asked for the screen for itself")

    def _write(self, client: Client) -> None:
        """As much as goes; a client whose conversation has ended is closed with the last byte."""
        assert self._selector is not None
        session = client.session
        if session.outgoing:
            try:
                sent = client.socket.send(session.outgoing)
                del session.outgoing[:sent]
                client.moved = time.monotonic()
            except BlockingIOError:
                pass
            except OSError as error:
                self._drop(client, f"lost: {error.strerror}")
                return
        if session.ending and not session.outgoing:
            self._drop(client, session.ending)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.outgoing else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted)

    def _send_pictures(self) -> None:
        """All requests are answered from one drawing, and none is made before the last is old enough."""
        now = time.monotonic()
        if now < self._next_picture or not any(c.session.wants_picture() for c in self._clients.values()):
            return
        self._poll(now)
        for client in list(self._clients.values()):
            if client.session.wants_picture():
                client.session.send_picture()
                client.moved = time.monotonic()
                self._write(client)

    def _poll(self, now: float) -> None:
        """Draw, unless that was done just now."""
        if now < self._next_picture:
            return
        self._desktop.frame.poll()
        pause = min(DRAWING_SHARE * (time.monotonic() - now), PICTURE_INTERVAL_S_MAX)
        self._next_picture = now + max(pause, PICTURE_INTERVAL_S)
        for client in self._clients.values():
            client.session.frame_changed()

    def _look_for_stalled(self) -> None:
        now = time.monotonic()
        for client in list(self._clients.values()):
            if not client.announced and now - client.connected > LOGIN_S:
                self._drop(client, f"dropped: not logged in after {LOGIN_S:.0f} s")
            elif client.session.outgoing and now - client.moved > STALLED_S:
                self._drop(client, f"dropped: has read nothing for {STALLED_S:.0f} s")

    def _drop(self, client: Client, why: str) -> None:
        assert self._selector is not None
        if why:
            self._log(f"remote screen: {client.name}: {why}")
        del self._clients[client.socket.fileno()]
        self._selector.unregister(client.socket)
        client.session.closed()
        client.socket.close()


def listen(where: Where) -> socket.socket:
    """A listening socket; one in the file system is its owner's alone. Raises HostRefused."""
    try:
        if where.path is not None:
            remove_dead_socket(where.path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # before it has a name
            target: str | tuple[str, int] = str(where.path)
        else:
            family, _, _, _, full = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            target = (str(full[0]), where.port)
    except OSError as error:
        raise HostRefused(f"remote screen on {place(where)}: cannot listen: {error.strerror or error}") from error
    try:
        listener.bind(target)
        listener.listen(CLIENTS_MAX)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise HostRefused(f"remote screen on {place(where)}: cannot listen: {error.strerror or error}") from error
    return listener


def place(where: Where) -> str:
    return str(where.path) if where.path is not None else f"{where.host}:{where.port}"
