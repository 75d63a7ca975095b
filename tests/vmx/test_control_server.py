"""The control socket with clients that behave, and with clients that do not."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import HostRefused
from tests.vmx.fake_machine import FakeMachine, ListLog
from vmx.control_client import ControlClient, Refused, ask
from vmx.control_server import ControlServer
from vmx.control_spec import CLIENTS_MAX, LINE_BYTES_MAX

HALF_LINE_S = 0.2


class Board:
    """A machine with a control socket."""

    def __init__(self, folder: Path) -> None:
        self.machine, self.log, self.path = FakeMachine(), ListLog(), folder / "s"
        self.server = ControlServer(self.path, self.machine, self.log, half_line_s=HALF_LINE_S)
        self.server.start()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.path))
        client.settimeout(10)
        return client


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path)
    yield board
    board.machine.gate.set()
    board.server.close()


def read_line(client: socket.socket) -> dict[str, Any]:
    line = client.makefile("rb").readline()
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


def request(verb: str, id_: int = 0, **arguments: object) -> bytes:
    return json.dumps({"verb": verb, "args": arguments, "id": id_}).encode() + b"\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_client_asks_and_is_answered(board: Board) -> None:
    with ControlClient(board.path) as client:
        assert client.call("status")["name"] == "web"
        client.call("connect", device="ide1:0", path="/x.iso")
        assert client.call("console") == {"vnc": "", "serial": ""}
    assert board.machine.calls == [("connect", "ide1:0", Path("/x.iso"))]


def test_a_refusal_comes_back_as_it_was_said(board: Board) -> None:
    with pytest.raises(Refused, match=r"^ide1:0: the guest has locked the drive$") as refused:
        ask(board.path, "eject", device="ide1:0")
    assert refused.value.kind == "HostRefused"


def test_the_socket_is_for_its_owner_only(board: Board) -> None:
    assert stat.S_IMODE(board.path.stat().st_mode) == 0o600


def test_many_clients_are_served(board: Board) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(board.path, "status")["name"], range(40)))
    assert answers == ["web"] * 40


def test_status_is_answered_while_a_slow_action_runs(board: Board) -> None:
    board.machine.gate.clear()
    slow = threading.Thread(target=ask, args=(board.path, "suspend"))
    slow.start()
    assert board.machine.entered.wait(10)
    assert ask(board.path, "status")["power_state"] == "poweredOn"
    board.machine.gate.set()
    slow.join(10)
    assert ask(board.path, "status")["power_state"] == "suspended"


def test_several_requests_at_once_are_answered_in_order(board: Board) -> None:
    with board.connect() as client:
        client.sendall(request("reset", 1) + request("status", 2) + b"\n" + request("reset", 3) + b"junk\n")
        lines = client.makefile("rb")
        answers = [json.loads(lines.readline()) for _ in range(4)]
    assert [answer.get("id") for answer in answers] == [1, 2, 3, None]
    assert [answer["ok"] for answer in answers] == [True, True, True, False]


def test_a_client_that_has_said_all_gets_its_answer(board: Board) -> None:
    with board.connect() as client:
        client.sendall(request("reset", 1))
        client.shutdown(socket.SHUT_WR)
        assert read_line(client)["ok"]
        assert client.recv(1) == b""


def test_a_request_in_pieces_is_one(board: Board) -> None:
    with board.connect() as client:
        for byte in request("status", 4):
            client.sendall(bytes((byte,)))
        assert read_line(client)["id"] == 4


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_request_that_is_too_long_ends_the_connection(board: Board, ending: bytes) -> None:
    with board.connect() as client:
        try:
            client.sendall(b"x" * (LINE_BYTES_MAX + 100_000) + ending)
            data = client.makefile("rb").read()
        except (BrokenPipeError, ConnectionResetError):
            data = b""
        if data:
            assert "at most" in json.loads(data.splitlines()[0])["error"]
    assert ask(board.path, "status")["name"] == "web"


def test_half_a_request_is_not_waited_for_for_ever(board: Board) -> None:
    with board.connect() as client:
        client.sendall(b'{"verb": ')
        assert client.recv(1) == b""
    assert any("its request stays incomplete" in line for line in board.log.lines)


def test_a_client_that_says_nothing_may_stay(board: Board) -> None:
    with board.connect() as quiet:
        with board.connect() as half:
            half.sendall(b"{")
            assert half.recv(1) == b""
        quiet.sendall(request("status", 8))
        assert read_line(quiet)["id"] == 8


def test_a_client_that_goes_before_its_answer_disturbs_nobody(board: Board) -> None:
    board.machine.gate.clear()
    with board.connect() as client:
        client.sendall(request("reset"))
        assert board.machine.entered.wait(10)
    board.machine.gate.set()
    wait_until(lambda: bool(board.machine.calls))
    assert ask(board.path, "status")["name"] == "web"


def test_the_idle_make_room_for_the_next(board: Board) -> None:
    crowd = [board.connect() for _ in range(CLIENTS_MAX + 10)]
    assert ask(board.path, "status")["name"] == "web"
    gone = 0
    for client in crowd:
        with client:
            try:
                client.sendall(request("status"))
                gone += not client.recv(10)
            except (BrokenPipeError, ConnectionResetError):
                gone += 1
    assert gone >= 10


def test_a_client_that_reads_nothing_costs_a_bounded_amount(board: Board) -> None:
    with board.connect() as client:
        client.setblocking(False)
        sent = 0
        line = request("status")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                sent += client.send(line * 50)
            except BlockingIOError:
                break
        assert sent < 4 << 20
        assert ask(board.path, "status")["name"] == "web"
        assert sum(len(held.received) + len(held.unsent) for held in list(board.server._clients)) < 3 * LINE_BYTES_MAX


def test_the_answer_to_stop_comes_before_the_end(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.machine.gate.clear()
    results: list[object] = []
    asker = threading.Thread(target=lambda: results.append(ask(board.path, "stop", hard=True)))
    asker.start()
    assert board.machine.entered.wait(10)
    closer = threading.Thread(target=board.server.close)
    closer.start()
    board.machine.gate.set()
    closer.join(10)
    asker.join(10)
    assert results == [None]
    assert not board.path.exists()


def test_closing_is_quick_though_clients_stay(tmp_path: Path) -> None:
    board = Board(tmp_path)
    with board.connect():
        ask(board.path, "status")
        started = time.monotonic()
        board.server.close()
        board.server.close()
        assert time.monotonic() - started < 3
    with pytest.raises(HostRefused, match="no machine answers"):
        ask(board.path, "status")


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "s"))
    left.close()
    board = Board(tmp_path)
    assert ask(board.path, "status")["name"] == "web"
    with pytest.raises(HostRefused, match="cannot listen"):
        ControlServer(board.path, board.machine, board.log)
    assert ask(board.path, "status")["name"] == "web"
    board.server.close()


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    board = Board(tmp_path)
    ask(board.path, "status")
    board.server.close()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("answer", [b"", b"junk\n", b"[]\n", b'{"ok": false}\n', b"x" * (2 << 20)])
def test_a_server_that_is_none_is_refused_in_one_line(tmp_path: Path, answer: bytes) -> None:
    from ringfence.errors import RingfenceError

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            try:
                connection.sendall(answer)
            except OSError:
                return

    server = threading.Thread(target=serve)
    server.start()
    with pytest.raises(RingfenceError) as refused:
        ask(tmp_path / "s", "status", 5)
    server.join(10)
    listener.close()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        with pytest.raises(HostRefused, match=r"has not answered within 0\.1 s"):
            ask(tmp_path / "s", "status", 0.1)
