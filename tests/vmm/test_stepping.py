"""A guest that is stepped through, one run of the engine for each instruction, does what it does at full speed.

Every exit falls between two instructions then, and no block has a second one: so what blocks, links and lazy flags do
for speed shows nowhere.
"""

from __future__ import annotations

import pytest

from guests import builder
from tests.vmx.machines import CollectingSerial
from vmm._core import lib
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason

LIMIT_S = 120
LONG = pytest.mark.long


def outcome(guest: str, step: int) -> tuple[str, StopReason, int]:
    """Output, end, and how many steps were taken."""
    made = Machine(MachineConfig(memory_mib=16), Attachments((CollectingSerial(),)))
    try:
        made.load(load_program(builder.build(guest), 16 << 20), "quick")
        made.vcpu.control.single_step = step
        made.limit_time(LIMIT_S)
        made.start()
        steps = 0
        while (stop := runner.run(made)).kind is StopKind.DEBUG:
            assert stop.detail == lib.DEBUG_STEP
            steps += 1
        assert isinstance(made.attachments.serials[0], CollectingSerial)
        return made.attachments.serials[0].output.decode(), stop, steps
    finally:
        made.close()


@pytest.mark.parametrize(
    "guest",
    ["segments", *(pytest.param(name, marks=LONG) for name in ("hello", "faults", "selfmod", "paging"))],
)
def test_a_stepped_guest_does_the_same(guest: str) -> None:
    text, stop, steps = outcome(guest, lib.STEP_ONE)
    assert (text, stop) == outcome(guest, lib.STEP_OFF)[:2]
    assert stop == StopReason(StopKind.EXITED, 0)
    assert steps > 10_000 and "FAIL" not in text
