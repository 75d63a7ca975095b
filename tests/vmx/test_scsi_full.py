"""A host that has no more room for a disk: the machine stands still and asks, and goes on as the answer says."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tests.vmx.scsi_machine import Background, Line, adapter, config_of, holds_zeros, load_guest, machine, make_disk
from vmx.machine import Machine
from vmx.machine_config import AdapterKind
from vmx.program import ToyProgram
from vmx.question import Policy
from vmx.stop import StopKind, StopReason
from vmx.suspend import suspend_soon

WAIT_S = 120
DONE = "DONE 19 passed, 0 failed"


class Full:
    """A machine whose disk's file may not grow until `make_room`, with the policy that a person is asked."""

    def __init__(self, made: Machine, line: Line, disk: Path) -> None:
        self.machine, self.line, self.disk = made, line, disk
        self.said: list[str] = []
        self.running: Background | None = None
        self.asked = threading.Event()
        made.questions.say, made.questions.policy = self._say, Policy.ASK
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        load_guest(made, 1)

    def _say(self, text: str) -> None:
        self.said.append(text)
        if not text.startswith("ANSWER"):
            self.asked.set()

    def begin_anew(self) -> None:
        """RESET#, the program's memory being as at power-on."""
        program = self.machine.program
        assert isinstance(program, ToyProgram)
        for piece in program.image.pieces:
            self.machine.memory.write(piece.gpa, bytes(piece.size))
        self.machine.reset_now()

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.disk.stat().st_size, self._limits[1]))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def asks(self) -> Background:
        """Run until the machine asks."""
        self.fill()
        self.running = running = Background(self.machine)
        assert self.asked.wait(WAIT_S), self.line.said()
        return running

    def answer(self, word: str) -> None:
        with self.machine.lock:
            self.machine.questions.answer(word)


@pytest.fixture(params=AdapterKind)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    disk = make_disk(tmp_path / "disk.vmdk")
    with machine(config_of({0: adapter(request.param, disk)}, tmp_path)) as (made, line):
        found = Full(made, line, disk)
        try:
            yield found
        finally:
            found.make_room()
            made.leave()
            if found.running is not None:
                found.running.ended()


def test_a_write_is_tried_again_when_there_is_room(full: Full) -> None:
    running = full.asks()
    assert "disk.vmdk" in full.said[0] and full.said[0].endswith("retry or abort?") and len(full.said) == 1
    before = full.machine.interrupts.now_ns
    assert full.machine.questions.text in full.said[0]
    full.asked.clear()
    full.answer("retry")
    assert full.asked.wait(WAIT_S), "there is still no room, and it is said again"
    full.make_room()
    full.answer("retry")
    assert running.ended().kind is StopKind.EXITED and full.line.said()[-1] == DONE, "\n".join(full.line.said())
    assert full.machine.interrupts.now_ns > before
    assert holds_zeros(full.machine.attachments.chains["scsi0:0"])


def test_guest_time_stands_still_while_it_is_asked(full: Full) -> None:
    running = full.asks()
    standing = threading.Event()
    full.machine.at_rest(standing.set)
    assert standing.wait(WAIT_S)
    now = [full.machine.interrupts.now_ns for _ in range(2) if not standing.wait(0.02) or True]
    assert now[0] == now[1]
    full.make_room()
    full.answer("retry")
    assert running.ended().kind is StopKind.EXITED and full.line.said()[-1] == DONE, "\n".join(full.line.said())


def test_an_aborted_write_fails_in_the_guest(full: Full) -> None:
    running = full.asks()
    full.machine.questions.policy = Policy.FAIL
    full.answer("abort")
    running.ended()
    assert any("writes_from_scattered_memory" in line for line in full.line.failures())


def test_nobody_is_asked_where_writes_are_to_fail(full: Full) -> None:
    full.machine.questions.policy = Policy.FAIL
    running = full.asks()
    running.ended()
    assert full.said[0].endswith("the guest's write fails") and full.line.failures()


def test_meanwhile_it_is_not_suspended_but_can_be_reset(full: Full) -> None:
    running = full.asks()
    failures: list[RingfenceError] = []
    refused = threading.Event()

    def failed(error: RingfenceError) -> None:
        failures.append(error)
        refused.set()

    suspend_soon(full.machine, full.disk.with_suffix(".vmss"), failed)
    assert refused.wait(WAIT_S) and "waits for an answer" in str(failures[0])
    with pytest.raises(BadOption, match="expected retry or abort"):
        full.answer("perhaps")
    full.make_room()
    full.machine.at_rest(full.begin_anew)  # the question goes with what asked it
    assert running.ended().kind is StopKind.EXITED and full.line.said()[-1] == DONE, full.line.said()
    with pytest.raises(HostRefused, match="asks nothing"):
        full.answer("retry")


def test_a_machine_that_asks_can_be_switched_off(full: Full) -> None:
    running = full.asks()
    full.machine.stop(StopReason(StopKind.SWITCHED_OFF))
    assert running.ended().kind is StopKind.SWITCHED_OFF


def test_it_is_tried_again_by_itself_where_nobody_can_be_asked(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmx.question.RETRY_S", 0.05)
    full.machine.questions.policy = Policy.RETRY
    running = full.asks()
    full.make_room()
    assert running.ended().kind is StopKind.EXITED and full.line.said()[-1] == DONE, "\n".join(full.line.said())
