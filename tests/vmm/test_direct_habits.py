"""Direct execution's choices in a running world: a page is no system-call stub because its first calls came quickly."""

from __future__ import annotations

import platform

import pytest

from tests.vmm.outer_rings import USER_CODE, OuterRings
from vmm.memory import PAGE_SIZE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

CALLS = 40
WORK = 3_000_000  # turns: a tenth of a second interpreted, a millisecond or two directly


@pytest.mark.parametrize("engine", ["direct", "direct-eager"])
def test_a_page_that_works_after_its_calls_runs_directly(engine: str) -> None:
    """So few instructions lie between the calls that the clock never strikes there."""
    stub = USER_CODE + PAGE_SIZE
    with OuterRings(engine) as p:
        p.handler(0x80, "incl %eax\niret")
        p.code(f"jmp {stub:#x}")
        p.code(
            f"xorl %eax, %eax\nmovl ${CALLS}, %edi\n1: movl $3000, %ecx\n2: loop 2b\nint $0x80\ndecl %edi\njnz 1b\n"
            f"movl ${WORK}, %ecx\n3: loop 3b\nint $0x90",
            stub,
        )
        event = p.go()
        assert event is not None and event.vector == 0x90
        assert p.v.r[0] == CALLS
        assert p.vcpu.stats.insns < WORK // 10, "the loop ran directly"
