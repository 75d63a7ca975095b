"""The client's side of the VMkernel's socket: connecting, starting the process where there is none, asking."""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ringfence.errors import BadInput, BadOption, HostRefused
from vmkernel.host.messages import parse_json, request
from vmkernel.host.messages_layout import (
    ANSWER,
    LOCK_NAME,
    LOG_NAME,
    MESSAGE_BYTES_MAX,
    SEND_BUFFER_BYTES,
    SOCKET_NAME,
    START_LOCK_NAME,
    VERSION,
    Kind,
)

SOURCES = Path(__file__).resolve().parents[2]  # where the packages are, also for a tree that is not installed
START_S, ANSWER_S, END_S = 60.0, 30.0, 5.0
ATTEMPTS, LOOK_S = 5, 0.02
SAID_BYTES_MAX = 16 << 10


class NotRunning(HostRefused):
    """There is no VMkernel process."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: no VMkernel is running")


class Ended(HostRefused):
    """The process ended before it answered."""

    def __init__(self) -> None:
        super().__init__("VMkernel: it ended before it answered")


class KernelPlace:
    """Where a user's VMkernel is: `directory` for its socket, `configuration` the file of the network."""

    def __init__(self, directory: Path, configuration: Path) -> None:
        self.directory, self.configuration = directory, configuration

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The answer of a process that runs. Raises NotRunning, and what the answer says is wrong."""
        connection, answer = self._open(verb, fields)
        connection.close()
        return answer

    def open(self, verb: str, *, start: bool, **fields: Any) -> tuple[socket.socket, dict[str, Any]]:
        """A connection that stays, and the answer. `start`: begin the process where there is none.

        Raises NotRunning, HostRefused, and what the answer says is wrong.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._open(verb, fields)
            except NotRunning:
                if not start:
                    raise
                self.start()
            except Ended:  # it was about to end when we came
                continue
        raise Ended

    def _open(self, verb: str, fields: dict[str, Any]) -> tuple[socket.socket, dict[str, Any]]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(ANSWER_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            try:
                connection.connect(str(self.directory / SOCKET_NAME))
            except (FileNotFoundError, ConnectionRefusedError):
                raise NotRunning(self.directory) from None
            connection.send(request({"version": VERSION, "verb": verb, **fields}))
            return connection, read_answer(connection)
        except (ConnectionResetError, BrokenPipeError):
            connection.close()
            raise Ended from None
        except OSError as error:
            connection.close()
            raise HostRefused(f"VMkernel: {error.strerror or error}") from error
        except BaseException:
            connection.close()
            raise

    def start(self, *, stay: bool = False) -> bool:
        """Whether it was not running. Raises HostRefused with what the process says."""
        with self._starting():
            try:
                self.ask("stay" if stay else "status")
                return False
            except (NotRunning, Ended):
                pass
            words = ["--stay"] if stay else []
            command = [sys.executable, "-m", "vmkernel.host", str(self.directory), str(self.configuration), *words]
            environment = dict(os.environ)
            environment["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [environment.get("PYTHONPATH")])])
            try:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    env=environment, cwd="/", start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise HostRefused(f"VMkernel: cannot start a process: {error.strerror}") from error
            self._wait_for(child)
            return True

    def _wait_for(self, child: subprocess.Popen[bytes]) -> None:
        """Until it closes its standard error, which says that it listens, or has ended. Raises HostRefused."""
        assert child.stderr is not None
        with child.stderr as pipe:
            said, closed = read_until_closed(pipe.fileno())
        try:
            self.ask("status")
        except HostRefused as error:
            if not closed:
                child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(END_S)
            lines = said.decode(errors="replace").strip().splitlines()
            raise HostRefused(lines[-1] if lines else f"VMkernel: its process did not start: {error}") from None
        child.returncode = 0  # it is on its own now
        with suppress(RuntimeError):  # where the host gives no thread, what is left of it stays until we end
            threading.Thread(target=wait_for_end, args=(child.pid,), name="VMkernel's end", daemon=True).start()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """One starts it at a time."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.directory / START_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostRefused(f"{self.directory}: cannot lock: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def stop(self, *, force: bool = False) -> None:
        """And wait until it has ended. Raises NotRunning, and BadOption while ports are in use and not `force`."""
        self.ask("stop", force=force)
        fd = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + END_S
            while not is_free(fd):
                if time.monotonic() > deadline:
                    raise HostRefused(f"VMkernel: it has not ended after {END_S:g} s")
                time.sleep(LOOK_S)
        finally:
            os.close(fd)

    @property
    def log(self) -> Path:
        """What a process said that ended unexpectedly."""
        return self.directory / LOG_NAME


def wait_for_end(pid: int) -> None:
    """So that nothing is left of a child that ends long after it was started."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def is_free(fd: int) -> bool:
    """Does nobody hold this lock?"""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_answer(connection: socket.socket) -> dict[str, Any]:
    """Raises Ended, and BadOption or HostRefused if that is the answer."""
    data = bytearray()
    more = True
    while more:
        part = connection.recv(MESSAGE_BYTES_MAX)
        if not part:
            raise Ended
        if len(part) < ANSWER.size or part[0] != Kind.ANSWER:
            raise BadInput("VMkernel", "message", "an answer", part[:8].hex(" "))
        _, more = ANSWER.unpack_from(part)
        data += part[ANSWER.size :]
    answer = parse_json(bytes(data))
    if "error" in answer:
        raise (BadOption if answer.get("kind") == "BadOption" else HostRefused)(str(answer["error"]))
    return answer


def read_until_closed(fd: int) -> tuple[bytes, bool]:
    """What is said on a pipe, and whether it was closed in time."""
    said = b""
    deadline = time.monotonic() + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(fd, 4096)
            if not data:
                return said, True
            said = (said + data)[-SAID_BYTES_MAX:]
    return said, False
