"""A machine that returns to a snapshot while it runs, driven by the command: it goes on from there, or is off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import SECTOR, contents, data, put
from tests.vmx import disk_guest
from tests.vmx.disk_guest import DiskLab, count, number_on
from tests.vmx.lab import Lab, wait_until
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmx.control_client import ask
from vmx.registry import Registry
from vmx.vmx_file import VmxFile


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab(tmp_path, monkeypatch)
    create(tmp_path / "disk.vmdk", Kind.THIN, 2048 * SECTOR)
    made.describe(**{"ide0:0_present": "TRUE", "ide0:0_fileName": "disk.vmdk"})
    yield made
    made.close()



def test_with_memory_it_goes_on_from_that_moment(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    lab.vm("snapshot", "take", "one", "--memory")
    talk.expect("W02", asked="w")
    pid = lab.pid()
    for _ in range(2):
        assert lab.vm("snapshot", "revert", "one") == "the machine runs from the snapshot\n"
        assert lab.state() == "poweredOn" and lab.pid() == pid
        talk = lab.talk()
        talk.expect("W02", asked="w")
    lab.vm("snapshot", "take", "two", "--memory")
    talk.expect("W03", asked="w")
    answer = json.loads(lab.vm("snapshot", "revert", "one", "--json"))
    assert answer == {"uid": 1, "power_state": "poweredOn", "notes": []}
    lab.talk().expect("W02", asked="w")
    assert json.loads(lab.vm("snapshot", "revert", "2", "--json"))["uid"] == 2
    lab.talk().expect("W03", asked="w")
    rows = json.loads(lab.vm("snapshot", "list", "--json"))
    assert [row["current"] for row in rows] == [False, True] and not any(row["missing"] for row in rows)
    lab.vm("stop", "--hard")
    assert lab.state() == "poweredOff" and not list(lab.folder.glob("*.vmss"))


def test_without_memory_it_is_off_then(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    lab.vm("snapshot", "take", "one")
    assert lab.vm("snapshot", "revert", "one") == "the machine is off\n"
    lab.wait_off()
    assert lab.state() == "poweredOff" and "RETURN to snapshot 1" in lab.log()
    lab.start().expect("W01", asked="w")


@pytest.mark.long
def test_one_in_front_goes_on_in_its_terminal(lab: Lab) -> None:
    child = lab.in_front()
    talk = lab.talk()
    talk.expect("W01", asked="w")
    wait_until(lambda: lab.state() == "poweredOn", "its entry in the registry")
    lab.vm("snapshot", "take", "one", "--memory")
    talk.expect("W02", asked="w")
    lab.vm("snapshot", "revert", "one")
    talk = lab.talk()
    talk.expect("W02", asked="w")
    talk.send("q")
    assert child.wait() == 5


@pytest.mark.long
def test_what_cannot_be_returned_to_leaves_it_running(lab: Lab) -> None:
    talk = lab.start()
    assert "expected one of none" in lab.refused("snapshot", "revert", "one")
    lab.vm("snapshot", "take", "one", "--memory")
    (lab.folder / "disk.vmdk").rename(lab.folder / "away.vmdk")
    assert "disk.vmdk" in lab.refused("snapshot", "revert", "one")
    (lab.folder / "away.vmdk").rename(lab.folder / "disk.vmdk")
    talk.expect("W01", asked="w")
    before = {path.name for path in lab.folder.glob("*.vmdk")}
    assert lab.vm("snapshot", "revert", "one") == "the machine runs from the snapshot\n"
    assert len(before) == len(list(lab.folder.glob("*.vmdk")))


@pytest.mark.long
def test_a_memory_that_does_not_fit_leaves_it_off_and_says_so(lab: Lab) -> None:
    lab.start()
    lab.vm("snapshot", "take", "one", "--memory")
    state = lab.folder / "lab-Snapshot1.vmsn"
    raw = bytearray(state.read_bytes())
    raw[-4096 * 8] ^= 0xFF
    state.write_bytes(raw)
    assert "checksum" in lab.refused("snapshot", "revert", "one")
    lab.wait_off()
    assert lab.state() == "suspended", "as the file says; start tells why it cannot go on"
    assert "checksum" in lab.refused("start")


def test_snapshots_are_deleted_under_a_running_machine(lab: Lab) -> None:
    talk = lab.start()
    for number in range(3):
        lab.vm("snapshot", "take", str(number), *["--memory"] * (number == 1))
    assert "the machine stood still for" in lab.vm("snapshot", "delete", "2")
    assert [row["uid"] for row in json.loads(lab.vm("snapshot", "list", "--json"))] == [1, 3]
    assert len(json.loads(lab.vm("snapshot", "delete-all", "--json"))["stuns_ms"]) == 3, "frozen links, and the rest"
    assert lab.vm("snapshot", "consolidate") == ""
    assert {path.name for path in lab.folder.glob("*.vm[ds][kn]")} == {"disk.vmdk", "disk-flat.vmdk"}
    assert VmxFile.read(lab.vmx).get("ide0:0.fileName") == "disk.vmdk"
    talk.expect("W01", asked="w")
    lab.vm("stop", "--hard")
    with open_disk(lab.folder / "disk.vmdk", writable=True) as disk:
        put(disk, 0, data(1, 1))
    assert contents(lab.folder / "disk.vmdk")[:SECTOR] == data(1, 1)


@pytest.mark.long
def test_whoever_asks_meanwhile_is_answered(lab: Lab) -> None:
    lab.start()
    lab.vm("snapshot", "take", "one", "--memory")
    done = threading.Event()
    states: list[str] = []

    entry = Registry.of_user().running_at(lab.vmx)
    assert entry is not None

    def look() -> None:
        while not done.is_set():
            states.append(ask(Path(entry.socket), "status")["power_state"])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(3):
            lab.vm("snapshot", "revert", "one")
    finally:
        done.set()
        looking.join()
    assert set(states) <= {"poweredOn", "poweredOff"} and "poweredOn" in states


# memory and disk together


@pytest.fixture(params=["scsi0:0", pytest.param("ide0:0", marks=pytest.mark.long)])
def booted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskLab]:
    disk_guest.need_firmware()
    made = DiskLab(tmp_path, monkeypatch, request.param)
    made.describe_disk("persistent")
    yield made
    made.close()


def test_memory_and_disk_come_back_together(booted: DiskLab) -> None:
    lab = booted
    talk = lab.boot()
    count(talk, "01", "02")
    lab.vm("snapshot", "take", "two", "--memory")
    count(talk, "03")
    lab.vm("snapshot", "take", "three", "--memory")
    count(talk, "04", "05")
    for name, number in (("two", "02"), ("three", "03"), ("two", "02")):
        lab.vm("snapshot", "revert", name)
        talk = lab.talk()
        talk.expect(f"P{number}{number}", asked="p")
        count(talk, f"{int(number) + 1:02}")
        talk.expect(f"P{int(number) + 1:02}{int(number) + 1:02}", asked="p")
    lab.vm("snapshot", "delete", "three")
    talk.expect("P0303", asked="p")
    count(talk, "04")
    lab.vm("snapshot", "delete", "two")
    talk.expect("P0404", asked="p")
    count(talk, "05")
    lab.vm("stop", "--hard")
    assert number_on(lab.disk) == 5
    assert {path.name for path in lab.folder.glob("*.vm[ds][kn]")} == {"disk.vmdk", "disk-flat.vmdk"}
    lab.boot().expect("P0005", asked="p")
