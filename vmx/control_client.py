"""The other end of a machine's control socket: ask, and get the answer or the machine's own line of refusal."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmx.control_spec import ANSWER_BYTES_MAX, LINE_BYTES_MAX

QUICK_TIMEOUT_S = 10.0
ACTION_TIMEOUT_S = 600.0  # suspending a large machine onto a slow disk
CONNECT_RETRY_S = 0.02
READ_BYTES = 16 << 10


class Refused(RingfenceError):
    """The machine did not do it. `kind` is the name of the exception there."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class ControlClient:
    """One connection."""

    def __init__(self, path: Path) -> None:
        """Raises HostRefused when nobody listens there."""
        self._path = path
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(QUICK_TIMEOUT_S)
            self._connect()
        except OSError as error:
            self._socket.close()
            raise HostRefused(f"{path}: no machine answers: {error.strerror or error}") from error

    def _connect(self) -> None:
        """With a full queue of connections, which a Unix socket reports at once, wait for room in it."""
        deadline = time.monotonic() + QUICK_TIMEOUT_S
        while True:
            try:
                self._socket.connect(str(self._path))
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(CONNECT_RETRY_S)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, verb: str, timeout_s: float = ACTION_TIMEOUT_S, /, **arguments: object) -> Any:
        """The result. Raises Refused, HostRefused when the connection breaks, BadInput for an answer that is none."""
        line = json.dumps({"verb": verb, "args": arguments}).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise BadInput(verb, "length of the request", f"at most {LINE_BYTES_MAX} bytes", str(len(line)))
        deadline = time.monotonic() + timeout_s
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(line)
            answer = self._read_line(deadline)
        except TimeoutError:
            raise HostRefused(f"{verb}: the machine has not answered within {timeout_s:g} s") from None
        except OSError as error:
            raise HostRefused(f"{verb}: the connection to the machine broke: {error.strerror or error}") from error
        return self._result(verb, answer)

    def _read_line(self, deadline: float) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > ANSWER_BYTES_MAX:
                raise BadInput(str(self._path), "answer", f"at most {ANSWER_BYTES_MAX} bytes", "more")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError(0, "closed before it answered")
            self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _result(self, verb: str, line: bytes) -> Any:
        try:
            answer = json.loads(line)
            if answer["ok"] is True:
                return answer.get("result")
            text, kind = str(answer["error"]), str(answer.get("kind", ""))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(str(self._path), f"answer to {verb}", "a JSON object with ok", repr(line[:80])) from None
        raise Refused(text, kind)


def ask(path: Path, verb: str, timeout_s: float = ACTION_TIMEOUT_S, /, **arguments: object) -> Any:
    """One request over a connection of its own."""
    with ControlClient(path) as client:
        return client.call(verb, timeout_s, **arguments)
