"""vmware.log: its form, its rotation, and hosts that do not take it."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from vmx.log import ENTRY_LINES_MAX, HostLog, VmwareLog, old_logs, rotate
from vmx.power_on_log import log_power_on, machine_lines
from vmx.vmx_file import VmxFile
from vmx.vmx_settings import settings_of

MOMENT = datetime(2007, 2, 8, 4, 5, 6, 78901)
LINE = re.compile(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\.\d{3}: [a-z0-9-]+\| .*")


def no_complaint(text: str) -> None:
    raise AssertionError(text)


def log_at(folder: Path, **options: int) -> VmwareLog:
    return VmwareLog(folder / "vmware.log", no_complaint, now=lambda: MOMENT, **options)  # type: ignore[arg-type]


def test_a_line_has_esx_form(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.write("PowerOn")
    log.write("CPU reset", "vcpu-0")
    log.close()
    assert (tmp_path / "vmware.log").read_text() == (
        "Feb 08 04:05:06.078: vmx| PowerOn\nFeb 08 04:05:06.078: vcpu-0| CPU reset\n"
    )


def test_nothing_that_is_logged_looks_like_another_entry(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.write("guest says\nJan 01 00:00:00.000: vmx| PowerOff\r\x1b[2J\x00\u2028x\udcff")
    log.write("x" * 100_000)
    log.write("\n" * 10_000)
    log.close()
    lines = (tmp_path / "vmware.log").read_text().splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert all(line.startswith("Feb 08") for line in lines)
    assert len(lines) < ENTRY_LINES_MAX + 10
    assert max(map(len, lines)) < 5000


def test_the_old_log_gets_the_next_number_and_the_oldest_go(tmp_path: Path) -> None:
    for run in range(10):
        log = log_at(tmp_path, keep_old=3)
        log.write(f"run {run}")
        log.close()
    assert sorted(os.listdir(tmp_path)) == ["vmware-7.log", "vmware-8.log", "vmware-9.log", "vmware.log"]
    assert "run 9" in (tmp_path / "vmware.log").read_text()
    assert "run 8" in (tmp_path / "vmware-9.log").read_text()


def test_other_files_are_no_logs(tmp_path: Path) -> None:
    for name in ("vmware-0.log", "vmware-x.log", "vmware-1.log.gz", "other-1.log", "vmware-7.log"):
        (tmp_path / name).touch()
    assert old_logs(tmp_path / "vmware.log") == [7]
    (tmp_path / "vmware.log").touch()
    rotate(tmp_path / "vmware.log", 1)
    assert (tmp_path / "vmware-8.log").exists()
    assert not (tmp_path / "vmware-7.log").exists()
    assert (tmp_path / "vmware-1.log.gz").exists()


def test_no_old_logs_are_kept_when_none_are_wanted(tmp_path: Path) -> None:
    for _ in range(3):
        log_at(tmp_path, keep_old=0).close()
    assert os.listdir(tmp_path) == ["vmware.log"]


def test_a_log_that_grows_is_begun_anew(tmp_path: Path) -> None:
    log = log_at(tmp_path, keep_old=2, rotate_bytes=1000)
    for number in range(100):
        log.write(f"line {number:04} {'x' * 60}")
    log.close()
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 3
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    assert "line 0099" in (tmp_path / "vmware.log").read_text()


def test_a_link_that_stands_in_the_logs_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "vmware.log").symlink_to("precious")
    log = log_at(tmp_path)
    log.write("x")
    log.close()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_is_not_there_is_said_once() -> None:
    said: list[str] = []
    log = VmwareLog(Path("/nonexistent/vmware.log"), said.append)
    log.write("x")
    log.write("y")
    log.close()
    assert len(said) == 1
    assert said[0].startswith("/nonexistent/vmware.log: cannot write the log, and go on without it")


def test_a_full_disk_is_said_once_and_the_rest_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = VmwareLog(tmp_path / "vmware.log", said.append)
    log.write("before")
    full = os.open("/dev/full", os.O_WRONLY)
    assert isinstance(log._file, HostLog)
    os.dup2(full, log._file._fd)
    os.close(full)
    log.write("x")
    log.write("y")
    log.close()
    assert len(said) == 1
    assert "No space left" in said[0]
    assert "before" in (tmp_path / "vmware.log").read_text()


# at power-on


def test_power_on_tells_the_whole_story(tmp_path: Path) -> None:
    text = (
        'config.version = "8"\ndisplayName = "web"\nmy.key = "a|0Ab"\nRemoteDisplay.vnc.enabled = "TRUE"\n'
        'RemoteDisplay.vnc.password = "secret"\nfloppy1.present = "TRUE"\nide1:0.present = "TRUE"\n'
        'ide1:0.deviceType = "cdrom-image"\nide1:0.fileName = "/x.iso"\nserial0.present = "TRUE"\n'
        'serial0.fileType = "pty"\n'
    )
    log = log_at(tmp_path)
    log_power_on(log, settings_of(VmxFile.parse(text.encode(), tmp_path / "m.vmx")), "interp")
    log.close()
    written = (tmp_path / "vmware.log").read_text()
    assert all(LINE.fullmatch(line) for line in written.splitlines())
    for part in (
        f"pid={os.getpid()}", "HOST sysname Linux", f"DICT --- CONFIGURATION {tmp_path / 'm.vmx'}",
        "DICT               displayName = web", "DICT                    my.key = a|0Ab",
        "m.vmx:3: my.key: unknown", "m.vmx:6: floppy1: not in this version",
        "MACHINE 'web': 1 vCPU, 32 MiB, engine interp", "DEVICE ide1:0   cdrom: /x.iso", "DEVICE serial0  pty",
        "DEVICE vnc      127.0.0.1:5900 with a password",
    ):  # fmt: skip
        assert part in written, part
    assert "secret" not in written


def test_an_empty_drive_is_called_empty() -> None:
    config = settings_of(VmxFile.parse(b"", Path("/m.vmx"))).config
    assert "DEVICE floppy0  floppy: empty" in machine_lines(config, "interp")
