"""Disk modes as a guest and a person see them: what a guest wrote is there at the next power-on, or is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmx import disk_guest
from tests.vmx.disk_guest import DiskLab, count, number_on
from tests.vmx.lab import wait_until
from vmx.registry import Registry
from vmx.vmx_file import VmxFile


class ModeLab(DiskLab):
    """What is asked, and what is left."""

    def redo(self) -> str:
        return VmxFile.read(self.vmx).get(f"{self.node}.redo")

    def asks(self) -> str:
        wait_until(lambda: self.status()["question"], "a question")
        return str(self.status()["question"])

    def nothing_left(self) -> bool:
        return not self.redo() and not list(self.folder.glob("*REDO*"))


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModeLab]:
    disk_guest.need_firmware()
    made = ModeLab(tmp_path, monkeypatch)
    yield made
    made.close()


def test_power_off_of_an_undoable_disk_asks_and_does_what_is_answered(one: ModeLab) -> None:
    one.describe_disk("undoable")
    for shown, answer, on_disk in (("00", "keep", 0), ("01", "discard", 0), ("00", "commit", 1)):
        talk = one.boot()
        talk.expect(f"P00{shown}", asked="p")
        count(talk, "01")
        talk.send("q")
        question = one.asks()
        assert "ide0:0" in question and question.endswith("commit or discard or keep?")
        assert one.state() == "poweredOn"
        assert "expected commit or discard or keep" in one.refused("answer", "perhaps")
        assert "ended before that" in one.refused("reset")
        one.vm("answer", answer)
        one.wait_off()
        assert number_on(one.disk) == on_disk and one.nothing_left() == (answer != "keep")
        assert f"QUESTION {question}" in one.log() and f"ANSWER {answer}" in one.log()


@pytest.mark.long
def test_a_scsi_disk_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_guest.need_firmware()
    lab = ModeLab(tmp_path, monkeypatch, "scsi0:0")
    try:
        lab.describe_disk("undoable")
        talk = lab.boot()
        count(talk, "01")
        talk.send("q")
        assert "scsi0:0" in lab.asks()
        lab.vm("answer", "commit")
        lab.wait_off()
        assert number_on(lab.disk) == 1 and lab.nothing_left()
    finally:
        lab.close()


@pytest.mark.long
@pytest.mark.parametrize(("action", "on_disk"), [("autoCommit", 1), ("autoRevert", 0), ("keep", 0)])
def test_the_file_says_what_becomes_of_it(one: ModeLab, action: str, on_disk: int) -> None:
    one.describe_disk("undoable", **{"snapshot.action": action})
    talk = one.boot()
    count(talk, "01")
    talk.send("q")
    one.wait_off()
    assert number_on(one.disk) == on_disk and one.nothing_left() == (action != "keep")


@pytest.mark.long
@pytest.mark.parametrize(("word", "on_disk"), [("commit", 1), ("discard", 0), ("keep", 0)])
def test_the_command_line_says_it_too(one: ModeLab, word: str, on_disk: int) -> None:
    one.describe_disk("undoable", **{"snapshot.action": "autoRevert" if word == "commit" else "autoCommit"})
    child = one.in_front("--redo-logs", word)
    talk = one.talk()
    talk.expect("ready")
    count(talk, "01")
    talk.send("q")
    assert child.wait() == 0
    assert number_on(one.disk) == on_disk and one.nothing_left() == (word != "keep")


@pytest.mark.long
def test_who_switches_it_off_again_keeps_it(one: ModeLab) -> None:
    one.describe_disk("undoable")
    count(one.boot(), "01")
    assert "is off when this is answered: what was written to ide0:0" in one.refused("stop", "--hard")
    one.vm("stop", "--hard")
    assert number_on(one.disk) == 0 and one.redo()
    assert "ide0:0: the changes are in disk.vmdk" in one.vm("snapshot", "commit")
    assert number_on(one.disk) == 1 and one.nothing_left()
    assert "no disk has a redo log in use" in one.refused("snapshot", "discard")


@pytest.mark.long
def test_an_append_disk_keeps_until_somebody_commits(one: ModeLab) -> None:
    one.describe_disk("append", **{"snapshot.action": "autoRevert"})
    for number in range(2):
        talk = one.boot()
        talk.expect(f"P00{number:02}", asked="p")
        count(talk, *(f"{at:02}" for at in range(1, number + 2)))
        assert "expected a machine that is off" in one.refused("snapshot", "commit")
        talk.send("q")
        one.wait_off()
    assert number_on(one.disk) == 0
    assert "expected one of ide0:0" in one.refused("snapshot", "commit", "scsi0:0")
    one.vm("snapshot", "commit", "ide0:0")
    assert number_on(one.disk) == 2 and one.nothing_left()


@pytest.mark.long
def test_a_suspended_machine_goes_on_with_its_redo_log(one: ModeLab) -> None:
    one.describe_disk("undoable")
    count(one.boot(), "01", "02")
    one.vm("suspend")
    assert one.redo() and "the machine is suspended" in one.refused("snapshot", "discard")
    one.vm("start")
    talk = one.talk()
    talk.expect("P0202", asked="p")
    count(talk, "03")
    one.vm("suspend")
    one.vm("stop")
    assert number_on(one.disk) == 0 and one.redo(), "kept, where nobody is asked"


@pytest.mark.long
def test_a_killed_machine_keeps_it(one: ModeLab) -> None:
    one.describe_disk("undoable", **{"snapshot.action": "autoCommit"})
    talk = one.boot()
    count(talk, "01")
    os.kill(one.pid(), signal.SIGKILL)
    assert talk.closed()
    wait_until(lambda: Registry.of_user().running_at(one.vmx) is None, "the end of the process")
    assert number_on(one.disk) == 0 and (redo := one.redo())
    talk = one.boot()
    assert one.redo() == redo
    count(talk, "01")
    talk.send("q")
    one.wait_off()
    assert number_on(one.disk) == 1 and one.nothing_left()


@pytest.mark.long
@pytest.mark.parametrize("mode", ["independent-persistent", "independent-nonpersistent", "nonpersistent"])
def test_independent_disks_stay_or_forget(one: ModeLab, mode: str) -> None:
    one.describe_disk(mode)
    kept = 1 if mode == "independent-persistent" else 0
    talk = one.boot()
    count(talk, "01")
    one.vm("suspend")
    one.vm("start")
    talk = one.talk()
    talk.expect("P0101", asked="p")
    talk.send("q")
    one.wait_off()
    assert number_on(one.disk) == kept
    assert {path.name for path in one.folder.glob("*.vmdk")} == {"disk.vmdk", "disk-flat.vmdk"}
    one.boot().expect(f"P00{kept:02}", asked="p")


def test_bare_sectors_have_no_redo_log(one: ModeLab) -> None:
    (one.folder / "raw.img").write_bytes(bytes(4 << 20))
    one.describe_disk("undoable", **{"ide0:0.fileName": "raw.img"})
    assert "disk in mode undoable: expected a VMDK" in one.refused("start")
