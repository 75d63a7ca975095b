"""Machines from .vmx files end to end: the real command, a process for each machine, a toy firmware as the guest."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.vmx.lab import Lab, make_disc, wait_until


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab(tmp_path, monkeypatch)
    yield made
    made.close()


# power


def test_a_machine_is_started_and_answers_and_is_switched_off_by_its_power_button(lab: Lab) -> None:
    talk = lab.start()
    status = lab.status()
    assert (status["power_state"], status["pid"], status["vcpus"]) == ("poweredOn", lab.pid(), 1)
    assert status["uptime_s"] > 0
    lab.vm("stop")
    talk.expect("button")
    lab.wait_off()
    assert lab.state() == "poweredOff"
    assert "the guest switched the machine off" in lab.log()
    assert not list(lab.runtime.glob("ringfence/*.sock"))


def test_stop_hard_asks_nobody_and_the_machine_is_off_when_it_returns(lab: Lab) -> None:
    for _ in range(2):
        talk = lab.start()
        talk.send("s")
        lab.vm("stop", "--hard")
        assert lab.state() == "poweredOff" and not lab.pid()
        assert lab.log().endswith("the machine was switched off\n")


def test_reset_starts_the_firmware_anew(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    talk.expect("W02", asked="w")
    lab.vm("reset")
    talk.expect("ready")
    talk.expect("W01", asked="w")


def test_a_guest_resets_itself_or_ends_the_run(lab: Lab) -> None:
    child = lab.in_front()
    talk = lab.talk()
    talk.expect("E", asked="e")
    talk.expect("ready", asked="r")
    talk.expect("E", asked="e")
    talk.send("p")
    assert child.wait(60) == 0
    child = lab.in_front("--no-reboot")
    talk = lab.talk()
    talk.expect("E", asked="er")
    assert child.wait(60) == 0
    assert "the guest reset the machine" in lab.log()


@pytest.mark.parametrize(
    ("command", "status", "said"), [("x", 3, "triple fault"), ("h", 0, "halted with interrupts disabled"), ("q", 5, "")]
)
def test_how_a_guest_ends_is_the_status_and_in_the_log(lab: Lab, command: str, status: int, said: str) -> None:
    child = lab.in_front()
    lab.talk().expect("E", asked=f"e{command}")
    _, told = child.communicate(timeout=60)
    assert child.returncode == status
    assert said in told and said in lab.log()
    assert ("EIP=" in told) == ("EIP=" in lab.log()) == (command == "x")
    assert "Traceback" not in told


def test_a_time_limit_and_statistics_go_with_a_vmx_file(lab: Lab) -> None:
    done = lab.shell("run", str(lab.vmx), "--timeout", "0.5", "--stats", "--screen")
    assert done.returncode == 124
    assert "ring transitions" in done.stderr and "the time limit passed" in done.stderr
    assert "The screen is in no text mode" in done.stderr


# one at a time


def test_a_second_power_on_is_refused_with_the_owner_s_process(lab: Lab) -> None:
    child = lab.in_front()
    lab.talk().expect("E", asked="e")
    line = lab.one_line("run", str(lab.vmx))
    assert line == f"{lab.vmx}: the machine is switched on already, by process {child.pid}"
    assert "not possible in the current state (Powered on)" in lab.refused("start")


def test_a_killed_machine_leaves_nothing_in_the_way(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    os.kill(lab.pid(), signal.SIGKILL)
    assert talk.closed()

    def listed() -> list[tuple[object, ...]]:
        rows = json.loads(lab.ringfence("vm", "list", "--json").stdout)
        return [(row["name"], row["power_state"], row["pid"]) for row in rows]

    wait_until(lambda: listed() == [("lab", "poweredOff", 0)], "the end of a process whose files are being closed")
    assert not list(lab.runtime.glob("ringfence/*.sock"))
    assert lab.state() == "poweredOff"
    lab.start().expect("W01", asked="w")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_switches_it_off_and_gives_everything_back(lab: Lab, number: signal.Signals) -> None:
    lab.describe(numvcpus="2", RemoteDisplay_vnc_enabled="TRUE", RemoteDisplay_vnc_port="0")
    child = lab.in_front(preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    lab.talk().expect("E", asked="e")
    child.send_signal(number)
    _, told = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else -number)
    assert told == ""
    assert f"POWEROFF by signal {number.name}" in lab.log()
    left = {path.name for path in lab.folder.iterdir()}
    assert left == {"lab.vmx", "run", "state", "toy.bin", "vmware.log"}
    assert not list(lab.runtime.glob("ringfence/*.sock")) + list(lab.runtime.glob("ringfence/*.json"))


# suspend


def test_a_suspended_machine_goes_on_where_it_was_in_another_process(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    first = lab.pid()
    lab.vm("suspend")
    assert lab.state() == "suspended" and not lab.pid()
    (saved,) = lab.folder.glob("*.vmss")
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600, "all of a guest's memory is in it"
    lab.vm("resume")
    talk = lab.talk()
    talk.expect("W02", asked="w")
    assert lab.pid() != first
    assert not list(lab.folder.glob("*.vmss")) and "vmss" not in lab.vmx.read_text()
    lab.vm("suspend")
    talk = lab.start()  # is resume, for a machine that is suspended
    talk.expect("W03", asked="w")
    assert lab.log().count("RESUME") == 1


def test_the_wall_clock_is_not_what_a_suspended_guest_lived(lab: Lab) -> None:
    lab.start()
    lab.vm("suspend")
    before = lab.status()["uptime_s"]
    lab.vm("resume")
    uptime = lab.status()["uptime_s"]
    assert before == 0 and uptime > 0


def test_stop_of_a_suspended_machine_gives_its_state_up(lab: Lab) -> None:
    lab.start().expect("W01", asked="w")
    lab.vm("suspend")
    lab.vm("stop")
    assert lab.state() == "poweredOff" and not list(lab.folder.glob("*.vmss"))
    lab.start().expect("W01", asked="w")


def test_a_damaged_state_is_refused_with_the_reason_and_stays(lab: Lab) -> None:
    lab.start().expect("W01", asked="w")
    lab.vm("suspend")
    (saved,) = lab.folder.glob("*.vmss")
    data, described = saved.read_bytes(), lab.vmx.read_text()
    for content, said in (
        (data[: len(data) // 2], "size: expected"), (b"\x7fELF" + data, "magic"),
        (data[:200] + b"?" + data[201:], "checksum"), (None, "cannot open"),
    ):  # fmt: skip
        if content is None:
            saved.unlink()
        else:
            saved.write_bytes(content)
        line = lab.refused("start")
        assert line.startswith(f"{saved}: ") and said in line
        assert lab.state() == "suspended" and saved.exists() == (content is not None)
        assert f"FAILED {saved}" in lab.log()
    saved.write_bytes(data)
    lab.vmx.write_text(described.replace('"16"', '"32"'))
    assert "memory_mib: expected 32 as this machine has, found 16" in lab.refused("start")
    lab.vmx.write_text(described)
    lab.start().expect("W02", asked="w")


@pytest.mark.parametrize("reason", ["no room", "no folder", "the .vmx file cannot be written"])
def test_a_machine_that_cannot_be_suspended_runs_on(lab: Lab, reason: str) -> None:
    if reason == "no folder":
        lab.describe(suspend_directory="nowhere")
    child = lab.in_front()
    talk = lab.talk()
    talk.expect("W01", asked="w")
    if reason == "no room":
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # for the log, not for a guest
    if reason == "the .vmx file cannot be written":
        lab.vmx.rename(lab.folder / "kept")
        lab.vmx.mkdir()  # as for a full disk, for root too
        entry = json.loads(next(lab.runtime.glob("ringfence/*.json")).read_text())
        line = lab.one_line("vm", entry["name"], "suspend")
        assert "cannot write" in line
    else:
        line = lab.refused("suspend")
        assert "the machine could not be suspended: " in line
        assert ("File too large" if reason == "no room" else "No such file") in line
        assert lab.state() == "poweredOn"
    talk.expect("W02", asked="w")
    assert not list(lab.folder.rglob("*.vmss*")), "nothing is left of the attempt"
    assert "CONTROL suspend failed" in lab.log()
    talk.send("p")
    assert child.wait(60) == 0


# devices


def test_discs_come_and_go_and_the_guest_sees_it(lab: Lab) -> None:
    one, two = make_disc(lab.folder / "one.iso", "ONE..."), make_disc(lab.folder / "two.iso", "TWO...")
    lab.describe(**{"ide1:0_fileName": "one.iso"})
    talk = lab.start()
    talk.expect("C64", asked="c")  # UNIT ATTENTION after power-on
    talk.expect("C00", asked="c")
    talk.expect("DONE...", asked="d")
    lab.vm("disconnect", "ide1:0")
    talk.expect("C24", asked="c")  # NOT READY
    lab.vm("connect", "ide1:0", str(two))
    talk.expect("C64", asked="c")
    talk.expect("DTWO...", asked="d")
    (device,) = [row for row in lab.status()["devices"] if row["device"] == "ide1:0"]
    assert device == {"device": "ide1:0", "kind": "cdrom", "connected": True, "backing": str(two)}
    talk.expect("L", asked="l")
    assert "the guest has locked the disc in" in lab.refused("eject", "ide1:0")
    talk.expect("DTWO...", asked="d")
    lab.vm("eject", "ide1:0", "--force")
    talk.expect("C24", asked="c")
    lab.vm("connect", "ide1:0", str(one))
    talk.expect("C64", asked="c")
    talk.expect("DONE...", asked="d")


IMPOSSIBLE = (
    (["connect", "ide1:0", "missing.iso"], "cannot open CD image: No such file"),
    (["connect", "ide1:0"], "no image or drive is configured"),
    (["connect", "scsi0:0"], "scsi0:0: expected one of serial0, ide1:0"),
    (["disconnect", "serial1"], "serial1: expected one of serial0, ide1:0"),
    (["eject", "serial0"], "serial0: expected a CD-ROM drive"),
    (["connect", "serial0", "x"], "a serial port keeps its far end"),
    (["screenshot", "/nonexistent/x.png"], "/nonexistent/x.png"),
    (["send-keys", "\u20ac"], "one that a US keyboard has"),
    (["resume"], "not possible in the current state (Powered on)"),
)


def test_what_a_running_machine_cannot_do_is_one_line(lab: Lab) -> None:
    lab.start()
    for words, said in IMPOSSIBLE:
        assert said in lab.refused(*words)
        assert words[0] == "resume" or f"CONTROL {words[0]} failed" in lab.log()


def test_a_serial_port_is_unplugged_and_plugged_in_again(lab: Lab) -> None:
    talk = lab.start()
    lab.vm("disconnect", "serial0")
    assert talk.closed()
    assert [row["connected"] for row in lab.status()["devices"] if row["device"] == "serial0"] == [False]
    lab.vm("connect", "serial0")
    lab.talk().expect("E", asked="e")


@pytest.mark.parametrize("kind", ["pty", "network", "pipe client"])
def test_serial_ports_of_every_kind_lead_to_the_guest(lab: Lab, kind: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pty":
            lab.describe(serial0_fileType="pty", serial0_fileName="")
        elif kind == "network":
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
            lab.describe(serial0_fileType="network", serial0_fileName=f"tcp://127.0.0.1:{port}")
        else:
            listener.bind(str(lab.folder / "ours"))
            listener.listen()
            lab.describe(serial0_fileName="ours", serial0_pipe_endPoint="client")
        lab.vm("start")
        (backing,) = [row["backing"] for row in lab.status()["devices"] if row["device"] == "serial0"]
        if kind == "pty":
            fd = os.open(backing.removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY)
            lab.talk(fd).expect("E", asked="e")
            os.close(fd)
        elif kind == "network":
            assert backing == f"tcp:127.0.0.1:{port}"
            lab.talk(("127.0.0.1", port)).expect("E", asked="e")
        else:
            connection, _ = listener.accept()
            with connection:
                lab.talk(connection.fileno()).expect("E", asked="e")


def test_keys_that_are_sent_reach_the_keyboard_controller(lab: Lab) -> None:
    talk = lab.start()
    lab.vm("send-keys", "a")
    talk.expect("K1e")
    talk.expect("K9e")
    lab.vm("send-keys", "ctrl-alt-delete")
    for code in ("1d", "38", "e0", "53", "e0", "d3", "b8", "9d"):
        talk.expect(f"K{code}")


def test_a_screenshot_is_a_picture_that_others_read(lab: Lab) -> None:
    lab.start()
    lab.vm("screenshot", str(lab.folder / "screen.png"))
    with Image.open(lab.folder / "screen.png") as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width >= 320 and picture.height >= 200


def vncdo(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["vncdo", "--nocursor", "-s", f"127.0.0.1::{port}", "--timeout", "60", *words]
    tool = [sys.executable, "-W", "ignore", "-m", "vncdotool.command", *command[1:]]
    return subprocess.run(tool, capture_output=True, text=True, check=False, timeout=90)


def test_a_vnc_client_needs_the_password_and_types(lab: Lab) -> None:
    lab.describe(
        RemoteDisplay_vnc_enabled="TRUE", RemoteDisplay_vnc_port="0", RemoteDisplay_vnc_password="secret"
    )  # fmt: skip
    talk = lab.start()
    where = lab.status()["vnc"]
    assert lab.vm("console") == f"VNC {where}\n"
    port = int(where.rpartition(":")[2])
    assert vncdo(port, "-p", "wrong", "key", "b").returncode != 0
    done = vncdo(port, "-p", "secret", "key", "a", "capture", str(lab.folder / "seen.png"))
    assert done.returncode == 0, done.stderr
    talk.expect("K1e")
    talk.expect("K9e")
    with Image.open(lab.folder / "seen.png") as picture:
        assert picture.width >= 320
    assert "secret" not in lab.log()


# bad input


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("memsize", "62", "expected a multiple of 4 from 4 to 3072"),
        ("memsize", "lots", "memsize: expected"),
        ("numvcpus", "9", "numvcpus: expected"),
        ("bios440.filename", "missing.bin", "missing.bin"),
        ("bios440.filename", "short.bin", "a multiple of 64 KiB"),
        ("ide1:0.fileName", "missing.iso", "expected an ISO image, found nothing"),
        ("ide1:0.fileName", "empty.iso", "an empty file"),
        ("ide1:0.fileName", "run", "expected a regular file or a block device"),
        ("serial0.fileName", "nowhere/com1", "nowhere/com1"),
        ("RemoteDisplay.vnc.port", "{taken}", "in use"),
    ],
)
def test_what_a_file_asks_for_in_vain_is_one_line_with_its_number(lab: Lab, key: str, value: str, said: str) -> None:
    (lab.folder / "short.bin").write_bytes(bytes(1000))
    (lab.folder / "empty.iso").write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = {"RemoteDisplay.vnc.enabled": "TRUE"} if "vnc" in key else {}
        lab.describe(**more, **{key: value.format(taken=taken.getsockname()[1])})
        line = lab.one_line("run", str(lab.vmx))
        assert said in line and line.startswith(f"{lab.line_of(key)}: "), line
    assert not lab.pid() and not list(lab.runtime.glob("ringfence/*.sock"))


def test_in_the_background_it_is_the_same_line(lab: Lab) -> None:
    (lab.folder / "empty.iso").write_bytes(b"")
    lab.describe(**{"ide1:0.fileName": "empty.iso"})
    line = lab.one_line("run", str(lab.vmx))
    assert "an empty file" in line
    assert lab.refused("start") == line
    done = lab.shell("run", str(lab.vmx), "--detached")
    assert (done.returncode, done.stderr) == (2, f"ringfence: {line}\n")


def test_a_line_that_is_none_is_named(lab: Lab) -> None:
    lab.vmx.write_text(lab.vmx.read_text() + "\nnonsense\n")
    number = lab.vmx.read_text().count("\n")
    assert lab.one_line("run", str(lab.vmx)).startswith(f"{lab.vmx}:{number}: line: expected key")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mem", "32"], "--mem: expected in {vmx}, not beside it"),
        (["--cdrom", "x.iso"], "--cdrom: expected in {vmx}"),
        (["--kernel", "x"], "--kernel: expected in {vmx}"),
        (["--detached", "--stats"], "--stats: expected without --detached"),
        (["--timeout", "-1"], "--timeout"),
    ],
)
def test_options_that_a_vmx_file_does_not_go_with_are_refused(lab: Lab, words: list[str], said: str) -> None:
    assert said.format(vmx=lab.vmx) in lab.one_line("run", str(lab.vmx), *words)


def test_a_file_that_is_not_there_is_one_line(lab: Lab) -> None:
    assert "no such file" in lab.one_line("run", str(lab.folder / "other.vmx"))
    assert "no such machine" in lab.one_line("vm", str(lab.folder / "other.vmx"), "start")


def test_run_detached_returns_when_the_machine_runs(lab: Lab) -> None:
    done = lab.shell("run", str(lab.vmx), "--detached", "--no-reboot")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    talk = lab.talk()
    talk.expect("E", asked="er")
    lab.wait_off()
    assert "the guest reset the machine" in lab.log()


def test_a_log_that_cannot_be_written_is_one_line_and_the_machine_runs(lab: Lab) -> None:
    lab.describe(log_fileName="nowhere/vmware.log")
    child = lab.in_front()
    talk = lab.talk()
    talk.expect("E", asked="e")
    assert lab.state() == "poweredOn"
    talk.send("p")
    _, told = child.communicate(timeout=60)
    assert child.returncode == 0
    assert told.count("\n") == 1 and "nowhere/vmware.log" in told


def test_every_answer_with_json_parses(lab: Lab) -> None:
    make_disc(lab.folder / "one.iso", "ONE...")
    assert json.loads(lab.vm("status", "--json"))["pid"] == 0
    assert json.loads(lab.vm("start", "--json"))["pid"] == lab.pid()
    for words in (
        ["reset"], ["connect", "ide1:0", "one.iso"], ["disconnect", "ide1:0"], ["send-keys", "a"],
        ["screenshot", str(lab.folder / "s.png")], ["suspend"],
    ):  # fmt: skip
        if words[0] == "connect":
            words[2] = str(lab.folder / words[2])
        assert json.loads(lab.vm(*words, "--json")) == {}, words
    assert json.loads(lab.vm("resume", "--json"))["vmx"] == str(lab.vmx)
    assert json.loads(lab.vm("console", "--json"))["serial"] == f"unix:{lab.folder / 'com1'}"
    assert json.loads(lab.vm("stop", "--hard", "--json")) == {}
    assert json.loads(lab.ringfence("vm", "list", "--json").stdout)[0]["power_state"] == "poweredOff"


def test_a_defect_of_ours_is_in_the_log_with_its_place(lab: Lab, tmp_path: Path) -> None:
    """A device that fails an assertion while nobody sees standard error."""
    script = (
        "import sys\nfrom hw.debugport import ExitPort\n"
        "def broken(self, *words):\n    assert False, 'a rule is broken'\n"
        "ExitPort.port_write = broken\nfrom tools.ringfence import main\nsys.exit(main())\n"
    )
    command = [sys.executable, "-c", script, "run", str(lab.vmx), "--in-background"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    lab.children.append(child)
    lab.talk().expect("E", asked="eq")
    assert child.wait(60) == 1
    assert "AssertionError: a rule is broken" in lab.log() and "port_write" not in lab.log().split("FAILED")[0]
    wait_until(lambda: not list(lab.runtime.glob("ringfence/*.sock")), "the socket's removal")
