"""Snapshots of machines that run: the machine stands still for a moment, goes on, and comes back to that moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, HostRefused, RingfenceError
from tests.vmkernel.storage.lab import SECTOR, contents, data, get, put
from tests.vmx.fake_machine import ListLog
from tests.vmx.lab import Lab
from tests.vmx.machines import machine
from tests.vmx.programs import assemble
from tests.vmx.snapshot_lab import SECTORS, at_snapshots, current, files_of_machine, links_in
from vmkernel.storage.blocks import DiskBlocks
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmdk.link import Link
from vmx import runner
from vmx.attachments import Disk
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.running import RunningMachine
from vmx.snapshots import delete_all, revert
from vmx.stop import StopKind, StopReason
from vmx.suspend import open_saved, restore
from vmx.vmx_settings import load_settings

LIMIT_S = 120
COUNTER = 0x9000
VMX = """\
config.version = "8"
memsize = "16"
ide0:0.present = "TRUE"
ide0:0.fileName = "m.vmdk"
"""
UUID = bytes(range(16))


class Ran:
    """A machine of a .vmx file on a thread of its own, whose guest counts in memory. The test writes to its disk."""

    def __init__(self, made: Machine, vmx: Path) -> None:
        self.machine, self.log = made, ListLog()
        self.running = RunningMachine(made, load_settings(vmx), self.log)
        self._thread = threading.Thread(target=self._run)

    @property
    def disk(self) -> Chain:
        drive = self.machine.attachments.drives[0, 0]
        assert isinstance(drive, Disk) and isinstance(drive.medium, DiskBlocks) and isinstance(drive.medium.disk, Chain)
        return drive.medium.disk

    def counted(self) -> int:
        return int.from_bytes(self.machine.memory.read(COUNTER, 4), "little")

    def begin(self) -> None:
        self.machine.limit_time(LIMIT_S)
        self.machine.start()
        self._thread.start()

    def _run(self) -> None:
        runner.run(self.machine)
        self.running.ended()

    def end(self) -> None:
        self.machine.stop(StopReason(StopKind.LEFT))
        if self._thread.ident is not None:
            self._thread.join()
        self.running.ended()


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    folder = tmp_path / "vm"
    folder.mkdir()
    create(folder / "m.vmdk", Kind.THIN, SECTORS * SECTOR)
    (folder / "m.vmx").write_text(VMX)
    return folder / "m.vmx"


@pytest.fixture
def ran(vmx: Path, tmp_path: Path) -> Iterator[Ran]:
    with machine(MachineConfig(memory_mib=16, uuid=UUID)) as made:
        made.attachments.drives[0, 0] = Disk(DiskBlocks(disk := open_disk(vmx.parent / "m.vmdk", writable=True), "m"))
        made.attachments.owned.append(disk)
        program = assemble(f".globl _start\n_start: incl {COUNTER}\njmp _start", tmp_path / "p")
        made.load(load_program(program, 16 << 20))
        ran = Ran(made, vmx)
        yield ran
        ran.end()


def wait_counted(ran: Ran) -> int:
    """The guest gets somewhere."""
    before = ran.counted()
    give_up = threading.Event()
    for _ in range(LIMIT_S * 100):
        if ran.counted() != before:
            return ran.counted()
        give_up.wait(0.01)
    raise AssertionError("the guest does not count")


@pytest.mark.parametrize("memory", [False, True])
def test_the_machine_goes_on_and_the_snapshot_stays_as_it_was(ran: Ran, vmx: Path, memory: bool) -> None:
    ran.begin()
    wait_counted(ran)
    put(ran.disk, 3, first := data(1, 2))
    taken = ran.running.take_snapshot("one", "", memory=memory)
    assert (taken.uid, taken.memory) == (1, memory) and taken.stun_ms > 0
    assert any("stood still" in line for line in ran.log.lines)
    put(ran.disk, 4, second := data(2, 2))
    wait_counted(ran)
    assert get(ran.disk, 3, 3) == first[:SECTOR] + second
    assert contents(vmx.parent / "m.vmdk")[3 * SECTOR : 5 * SECTOR] == first, "readers have the frozen link"
    ran.end()
    ran.machine.close()
    assert current(vmx)["ide0:0"][3 * SECTOR : 6 * SECTOR] == first[:SECTOR] + second
    assert at_snapshots(vmx)[1]["ide0:0"][3 * SECTOR : 6 * SECTOR] == first + bytes(SECTOR)
    row = ran.running.list_snapshots()[0]
    assert (row.memory, row.current, row.missing) == (memory, True, ())
    delete_all(files_of_machine(vmx))
    assert links_in(vmx.parent) == {"m.vmdk", "m-flat.vmdk"}


def test_a_return_to_memory_goes_on_from_that_moment(ran: Ran, vmx: Path) -> None:
    ran.begin()
    wait_counted(ran)
    ran.running.take_snapshot("one", "", memory=True)
    wait_counted(ran)
    put(ran.disk, 0, data(5, 1))
    ran.end()
    late = ran.counted()
    ran.machine.close()
    assert revert(files_of_machine(vmx), 1) == []
    settings = load_settings(vmx)
    assert settings.resume_from is not None and settings.resume_from.suffix == ".vmss"
    assert current(vmx)["ide0:0"] == bytes(SECTORS * SECTOR)
    saved = open_saved(settings.resume_from)
    with machine(MachineConfig(memory_mib=16, uuid=UUID)) as again:
        again.attachments.drives[0, 0] = Disk(DiskBlocks(open_disk(vmx.parent / "m.vmdk"), "m"))
        restore(again, saved)
        assert 0 < int.from_bytes(again.memory.read(COUNTER, 4), "little") < late
    saved.close()
    settings.resume_from.unlink()  # as whoever resumes does
    assert (vmx.parent / "m-Snapshot1.vmsn").exists(), "the snapshot keeps its own"


def test_many_snapshots_under_a_stream_of_writes(ran: Ran, vmx: Path) -> None:
    ran.begin()
    failures: list[RingfenceError] = []
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        try:
            while not done.is_set():
                put(ran.disk, written % SECTORS, data(written, 1))
                written += 1
        except RingfenceError as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(6):
        ran.running.take_snapshot(str(number), "", memory=False)
    done.set()
    writer.join()
    assert not failures and written
    shown = get(ran.disk, 0, SECTORS)
    for number in range(max(0, written - SECTORS), written):
        at = number % SECTORS * SECTOR
        assert shown[at : at + SECTOR] == data(number, 1)
    ran.end()
    ran.machine.close()
    assert current(vmx)["ide0:0"] == shown
    assert len(at_snapshots(vmx)) == 6
    delete_all(files_of_machine(vmx))
    assert current(vmx)["ide0:0"] == shown


def test_only_the_link_that_is_written_is_locked_against_readers(ran: Ran, vmx: Path) -> None:
    ran.begin()
    with pytest.raises(Locked):
        open_disk(vmx.parent / "m.vmdk")
    ran.running.take_snapshot("one", "", memory=False)
    open_disk(vmx.parent / "m.vmdk").close()
    with pytest.raises(Locked):
        open_disk(vmx.parent / "m.vmdk", writable=True)
    with pytest.raises(Locked):
        open_disk(vmx.parent / "m-000001.vmdk")


def test_what_fails_leaves_the_machine_as_it_was(ran: Ran, vmx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran.begin()
    before, text = {path.name for path in vmx.parent.iterdir()}, vmx.read_bytes()

    def settle(link: Link) -> None:
        raise HostRefused("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Link, "settle", settle)
        with pytest.raises(HostRefused, match="the disk is full"):
            ran.running.take_snapshot("one", "", memory=True)
    assert {path.name for path in vmx.parent.iterdir()} - before == {"m.vmsd"} and vmx.read_bytes() == text
    wait_counted(ran)
    put(ran.disk, 1, content := data(3, 1))
    assert ran.running.take_snapshot("two", "", memory=False).uid == 2
    assert contents(vmx.parent / "m.vmdk")[SECTOR : 2 * SECTOR] == content


def test_memory_and_an_independent_disk_do_not_go_together(ran: Ran, vmx: Path) -> None:
    ran.running.settings.file.set("ide0:0.mode", "independent-persistent")
    with pytest.raises(BadOption, match="ide0:0 is independent-persistent"):
        ran.running.take_snapshot("one", "", memory=True)


def test_a_file_that_names_another_disk_than_the_machine_has_is_refused(ran: Ran, vmx: Path) -> None:
    create(vmx.parent / "other.vmdk", Kind.THIN, SECTORS * SECTOR)
    ran.running.settings.file.set("ide0:0.fileName", "other.vmdk")
    with pytest.raises(BadInput, match=r"disk of the running machine: expected other\.vmdk"):
        ran.running.take_snapshot("one", "", memory=False)


# the command


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_machine_goes_back_to_where_it_was_and_on_from_there(lab: Lab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    assert "the machine stood still for" in lab.vm("snapshot", "take", "one", "--memory", "--description", "early")
    talk.expect("W02", asked="w")
    assert "'one'" in (shown := lab.vm("snapshot", "list")) and ", with memory: early\n  * you are here" in shown
    lab.vm("stop", "--hard")
    for _ in range(2):
        lab.vm("snapshot", "revert", "one")
        assert lab.state() == "suspended"
        lab.vm("start")
        talk = lab.talk()
        talk.expect("W02", asked="w")
        lab.vm("stop", "--hard")
    lab.vm("snapshot", "delete", "1")
    assert lab.vm("snapshot", "list") == "no snapshots\n"
    assert not list(lab.folder.glob("*.vm[s]n"))


def test_words_that_make_no_order_are_named(lab: Lab) -> None:
    for words, said in (
        (("snapshot",), "snapshot: expected take, list, revert"),
        (("snapshot", "explode"), "expected one of take, list"),
        (("snapshot", "take"), "snapshot take: expected NAME after it"),
        (("snapshot", "list", "x"), "expected nothing after it, found x"),
        (("status", "--memory"), "--memory: expected with snapshot take only"),
        (("snapshot", "take", "one", "--memory"), "--memory: expected a machine that runs"),
        (("snapshot", "revert", "one"), "snapshot 'one': expected one of none"),
    ):
        assert said in lab.refused(*words)
