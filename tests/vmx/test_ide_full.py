"""A host that has no more room for an IDE disk: the machine stands still and asks, for a chain and for bare sectors."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmx.machines import LIMIT_S, CollectingSerial
from tests.vmx.programs import assemble
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.create import Kind, create
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import DriveKind, DriveSpec, MachineConfig
from vmx.plug import plug_in
from vmx.question import Policy
from vmx.stop import StopKind, StopReason

WAIT_S = 120
SECTOR, SECTORS, DISK_BYTES = 512, 4, 8 << 20
AT = 15000

# Writes sectors full of W by PIO, flushes, and ends with the last status.
PROGRAM = f"""
.globl _start
_start:
    mov $0x1f6, %dx; mov $0xe0, %al; out %al, %dx
    mov $0x1f2, %dx; mov ${SECTORS}, %al; out %al, %dx
    inc %dx; mov ${AT & 0xFF}, %al; out %al, %dx
    inc %dx; mov ${AT >> 8}, %al; out %al, %dx
    inc %dx; xor %al, %al; out %al, %dx
    mov $0x1f7, %dx; mov $0x30, %al; out %al, %dx
    mov ${SECTORS}, %esi
1:  call ready
    test $8, %al; jz 3f
    mov $256, %ecx
    mov $0x5757, %eax
    mov $0x1f0, %dx
2:  out %ax, %dx; loop 2b
    dec %esi; jnz 1b
    call ready
    test $0x21, %al; jnz 3f
    mov $0x1f7, %dx; mov $0xe7, %al; out %al, %dx
    call ready
3:  mov $0xf4, %dx; out %al, %dx
4:  jmp 4b
ready:
    mov $0x1f7, %dx
5:  in %dx, %al; test $0x80, %al; jnz 5b
    ret
"""
DONE, FAULT = 0x50, 0x71


class Full:
    """A machine with a disk for whose new sectors there is no room until `make_room`."""

    def __init__(self, made: Machine, disk: Path) -> None:
        self.machine, self.disk = made, disk
        self.said: list[str] = []
        self.asked = threading.Event()
        self.stop: StopReason | None = None
        made.questions.say, made.questions.policy = self._say, Policy.ASK
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._thread = threading.Thread(target=self._run)

    def _say(self, text: str) -> None:
        self.said.append(text)
        if not text.startswith("ANSWER"):
            self.asked.set()

    def _run(self) -> None:
        self.machine.limit_time(LIMIT_S)
        self.machine.start()
        self.stop = runner.run(self.machine)

    def begin(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, self._limits[1]))
        self._thread.start()
        assert self.asked.wait(WAIT_S), "it asks"

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def answer(self, word: str) -> None:
        with self.machine.lock:
            self.machine.questions.answer(word)

    def ended(self) -> StopReason:
        if self._thread.ident is not None:
            self._thread.join()
        assert self.stop is not None
        return self.stop

    def written(self) -> bytes:
        self.machine.close()
        data = memoryview(bytearray(SECTORS * SECTOR))
        with open_disk(self.disk) if self.disk.suffix == ".vmdk" else open_raw(self.disk) as chain:
            chain.read(AT * SECTOR, [data])
        return bytes(data)


@pytest.fixture(params=["disk.vmdk", "disk.img"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    disk = tmp_path / request.param
    if disk.suffix == ".vmdk":
        create(disk, Kind.MONOLITHIC_SPARSE, DISK_BYTES)
    else:
        disk.write_bytes(b"")
        with disk.open("r+b") as file:
            file.truncate(DISK_BYTES)
    config = MachineConfig(
        memory_mib=16, engine="interp", serials=(None, None), ide={(0, 0): DriveSpec(DriveKind.DISK, disk)},
        folder=tmp_path,
    )  # fmt: skip
    attached = plug_in(config, lambda text: None, lambda byte: None, firmware=False)
    attached.plug_serial(0, CollectingSerial())
    made = Machine(config, attached)
    made.load(load_program(assemble(PROGRAM, tmp_path / "program"), 16 << 20))
    found = Full(made, disk)
    try:
        yield found
    finally:
        found.make_room()
        made.leave()
        if found._thread.ident is not None:
            found._thread.join()
        made.close()


def test_a_write_is_tried_again_when_there_is_room(full: Full) -> None:
    full.begin()
    assert full.said[0].startswith("QUESTION no room on the datastore: ide0:0: ")
    assert full.disk.name in full.said[0] and full.said[0].endswith("retry or abort?")
    standing = threading.Event()
    full.machine.at_rest(standing.set)
    assert standing.wait(WAIT_S)
    assert full.machine.interrupts.now_ns == full.machine.interrupts.now_ns, "guest time stands still"
    full.asked.clear()
    full.answer("retry")
    assert full.asked.wait(WAIT_S), "there is still no room"
    full.make_room()
    full.answer("retry")
    stop = full.ended()
    assert (stop.kind, stop.status) == (StopKind.EXITED, DONE), full.said
    assert full.written() == b"W" * SECTORS * SECTOR


def test_an_aborted_write_fails_in_the_guest(full: Full) -> None:
    full.begin()
    full.answer("abort")
    stop = full.ended()
    assert (stop.kind, stop.status) == (StopKind.EXITED, FAULT)


def test_nobody_is_asked_where_writes_are_to_fail(full: Full) -> None:
    full.machine.questions.policy = Policy.FAIL
    full.begin()
    assert full.ended().status == FAULT and full.said[0].endswith("the guest's write fails")


def test_a_machine_that_asks_can_be_switched_off(full: Full) -> None:
    full.begin()
    full.machine.stop(StopReason(StopKind.SWITCHED_OFF))
    assert full.ended().kind is StopKind.SWITCHED_OFF


def test_it_is_reset_while_it_asks(full: Full) -> None:
    full.begin()
    full.make_room()
    full.machine.at_rest(full.machine.reset_now)
    stop = full.ended()
    assert (stop.kind, stop.status) == (StopKind.EXITED, DONE), full.said
