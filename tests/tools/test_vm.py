"""`ringfence vm` against machines that are none: what it asks, what it prints, what it refuses."""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, HostRefused, RingfenceError
from tests.vmx.fake_machine import FakeMachine, ListLog
from tools.ringfence import OneLineParser
from tools.vm import VERBS, add_vm_verb, uptime_text
from vmx import machine_list, power
from vmx.control_server import ControlServer
from vmx.registry import Registry


class Running:
    """A machine in this process."""

    def __init__(self, vmx: Path) -> None:
        self.machine, self.registry = FakeMachine(), Registry.of_user()
        self.server = ControlServer(self.registry.socket_path(vmx), self.machine, ListLog())
        self.server.start()
        self.registration = self.registry.register("web", vmx)

    def close(self) -> None:
        self.server.close()
        self.registration.close()


@pytest.fixture
def vmx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    path = tmp_path / "web.vmx"
    path.write_text('config.version = "8"\ndisplayName = "web"\nmy.key = "1"\nserial0.present = "TRUE"\n'
                    'serial0.fileType = "pty"\n')  # fmt: skip
    return path


class Broken:
    """A machine that breaks each connection, and one that is dying ends a moment after the first."""

    def __init__(self, vmx: Path, dying: bool) -> None:
        registry = Registry.of_user()
        self._path = registry.socket_path(vmx)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._registration = registry.register("web", vmx)
        self._dying = dying
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._listener.accept()[0].close()
                if self._dying:
                    time.sleep(0.1)
                    return self._registration.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._registration.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)


@pytest.fixture
def running(vmx: Path) -> Iterator[Running]:
    running = Running(vmx)
    yield running
    running.close()


def vm(*arguments: str) -> int:
    top = OneLineParser(prog="ringfence")
    add_vm_verb(top.add_subparsers(dest="verb", required=True))
    options: argparse.Namespace = top.parse_args(["vm", *arguments])
    status: int = options.action(options)
    return status


def test_the_verbs_are_those_of_the_power_table() -> None:
    assert set(VERBS) == power.VERBS


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["stop"], ("stop", False)),
        (["stop", "--hard"], ("stop", True)),
        (["reset"], ("reset",)),
        (["suspend"], ("suspend",)),
        (["connect", "serial0"], ("connect", "serial0", None)),
        (["disconnect", "ide1:0"], ("disconnect", "ide1:0")),
        (["eject", "ide1:0", "--force"], ("eject", "ide1:0")),
        (["screenshot", "/a.png"], ("screenshot", Path("/a.png"))),
        (["send-keys", "ls -l"], ("send_keys", "ls -l")),
    ],
)
def test_a_verb_asks_the_machine_and_prints_nothing(
    running: Running, capsys: pytest.CaptureFixture[str], words: list[str], call: tuple[object, ...]
) -> None:
    assert vm("web", *words) == 0
    assert running.machine.calls == [call]
    assert capsys.readouterr().out == ""


def test_a_relative_path_is_the_callers(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    vm("web", "screenshot", "a.png")
    vm("web", "connect", "ide1:0", "b.iso")
    assert running.machine.calls == [
        ("screenshot", tmp_path / "sub" / "a.png"), ("connect", "ide1:0", tmp_path / "sub" / "b.iso")
    ]  # fmt: skip


def test_status_says_what_the_machine_is(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    vm("web", "status")
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "power state  poweredOn", "memory       64 MiB", "uptime       1 h 00 min 05 s",
        "ide1:0       cdrom, connected, /x.iso", "unknown keys my.key",
    ):  # fmt: skip
        assert line in lines
    vm("web", "status", "--json")
    assert json.loads(capsys.readouterr().out)["devices"][0]["device"] == "ide1:0"


def test_a_machine_that_is_off_has_a_status_too(vmx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vm(str(vmx), "status")
    out = capsys.readouterr().out
    assert "power state  poweredOff" in out
    assert "serial0      serial port, connected, pty" in out
    assert "uptime" not in out
    vm(str(vmx), "status", "--json")
    assert json.loads(capsys.readouterr().out)["unknown_keys"] == ["my.key"]


def test_a_suspended_machine_that_is_stopped_gives_its_state_up(vmx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with vmx.open("a") as file:
        file.write('checkpoint.vmState = "web.vmss"\n')
    vm(str(vmx), "status", "--json")
    assert json.loads(capsys.readouterr().out)["power_state"] == "suspended"
    vm(str(vmx), "stop")
    vm(str(vmx), "status", "--json")
    assert json.loads(capsys.readouterr().out)["power_state"] == "poweredOff"


def test_the_list_shows_machines_that_run_and_that_ran(vmx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vm("list")
    assert capsys.readouterr().out == "no machines\n"
    running = Running(vmx)
    vm("list")
    assert capsys.readouterr().out == f"web  poweredOn  {os.getpid()}  {vmx}\n"
    running.close()
    vm("list")
    assert capsys.readouterr().out == f"web  poweredOff  -  {vmx}\n"
    vm("list", "--json")
    assert json.loads(capsys.readouterr().out) == [
        {"name": "web", "power_state": "poweredOff", "pid": 0, "vmx": str(vmx)}
    ]


def test_console_says_where_the_vnc_server_is(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    running.machine.vnc = "127.0.0.1:5901"
    vm("web", "console")
    assert capsys.readouterr().out == "VNC 127.0.0.1:5901\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["web"], "expected a verb: one of start, stop"),
        (["web", "explode"], "vm: explode: expected one of"),
        (["web", "connect"], "expected DEVICE [FILE] after it, found nothing"),
        (["web", "reset", "now"], "expected nothing after it, found now"),
        (["web", "reset", "--hard"], "--hard: expected with stop only"),
        (["web", "stop", "--force"], "--force: expected with eject only"),
    ],
)
def test_words_that_make_no_order_are_refused(vmx: Path, words: list[str], said: str) -> None:
    with pytest.raises(BadOption) as refused:
        vm(*words)
    assert said in str(refused.value)


def test_a_machine_that_ends_while_it_is_asked_is_off(vmx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Broken(vmx, dying=True)):
        vm("web", "status", "--json")
    assert json.loads(capsys.readouterr().out)["power_state"] == "poweredOff"
    with closing(Broken(vmx, dying=True)):
        vm("list", "--json")
    off = {"name": "web", "power_state": "poweredOff", "pid": 0, "vmx": str(vmx)}
    assert json.loads(capsys.readouterr().out) == [off]


def test_a_machine_that_breaks_connections_and_stays_is_named(
    vmx: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_list, "ENDING_S", 0.2)
    with closing(Broken(vmx, dying=False)):
        with pytest.raises(HostRefused, match="the connection to the machine broke"):
            vm("web", "status")
        vm("list", "--json")
    assert [row["power_state"] for row in json.loads(capsys.readouterr().out)] == [machine_list.UNREACHABLE]


def test_a_machine_that_nobody_knows_is_refused(vmx: Path) -> None:
    with pytest.raises(BadInput, match="no such machine"):
        vm("mail", "status")


@pytest.mark.parametrize("order", ["reset", "suspend", "resume", "console", "stop"])
def test_what_a_machine_that_is_off_cannot_do_is_refused(vmx: Path, order: str) -> None:
    with pytest.raises(power.InvalidPowerState, match="Powered off"):
        vm(str(vmx), order)


@pytest.mark.parametrize("order", ["start", "resume"])
def test_a_machine_that_runs_is_not_started_again(running: Running, order: str) -> None:
    with pytest.raises(RingfenceError, match="Powered on"):
        vm("web", order)


def test_a_refusal_is_the_machines_line(running: Running) -> None:
    with pytest.raises(RingfenceError, match=r"^ide1:0: the guest has locked the drive$"):
        vm("web", "eject", "ide1:0")


def test_a_machine_whose_file_is_bad_is_refused_by_the_line(vmx: Path) -> None:
    vmx.write_text("memsize = \n\nnonsense\n")
    with pytest.raises(BadInput, match=r"web\.vmx:3: line"):
        vm(str(vmx), "start")


def test_a_runtime_directory_that_is_open_to_others_is_refused(vmx: Path, tmp_path: Path) -> None:
    (tmp_path / "ringfence").mkdir(mode=0o777)
    (tmp_path / "ringfence").chmod(0o777)
    with pytest.raises(HostRefused, match="mode 0700"):
        vm("list")


def test_times_are_written_for_people() -> None:
    texts = [uptime_text(seconds) for seconds in (0, 7.9, 61, 3661)]
    assert texts == ["", "0 min 07 s", "1 min 01 s", "1 h 01 min 01 s"]
