"""Direct execution of pages that hold instructions younger than the guest's processor: which are trusted, and how long.

That the instructions themselves are undefined is test_direct_encodings.py's subject.
"""

from __future__ import annotations

import platform

import pytest

from tests.vmm.outer_rings import LOG_WORD, USER_CODE, OuterRings
from tests.vmm.test_direct import DONE, declined
from vmm.memory import PAGE_SIZE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

# What the guest's processor lacks, beside code that it runs: string functions for SSSE3 lie beside those that a guest
# calls which has read CPUID.
PSHUFB = ".byte 0x66, 0x0f, 0x38, 0x00, 0xc1\n"
AT_WORK = "movl $40, %esi\n4: movl $1000000, %ecx\n1: loop 1b\ndecl %esi\njnz 4b\n"
WORK = 40_000_000


def test_a_page_is_trusted_where_the_guest_keeps_clear_of_its_younger_instructions() -> None:
    with OuterRings("direct") as p:
        p.go(AT_WORK + "jmp 5f\n" + PSHUFB + "5: nop" + DONE)
        assert p.vcpu.stats.direct_trusted == 1
        assert p.stays[3] > 0 and declined(p, "CODE") > 0
        assert p.vcpu.stats.insns < WORK // 2


def test_a_page_is_not_trusted_in_which_a_younger_instruction_was_met() -> None:
    with OuterRings("direct") as p:
        p.handler(6, "addl $5, (%esp)\niret")
        p.go(PSHUFB + AT_WORK + DONE)
        assert p.vcpu.stats.direct_trusted == 0
        assert p.stays[3] == 0


def test_a_page_that_is_trusted_no_longer_is_when_the_guest_meets_an_undefined_instruction() -> None:
    """By UD2, say, a program finds out what happens then; it gets the same for all that its processor lacks."""
    with OuterRings("direct") as p:
        p.handler(6, LOG_WORD + "pushl %eax\npushl %ebx\nmovl 8(%esp), %eax\nlog_word %eax\n"
                  "popl %ebx\npopl %eax\naddl $6, (%esp)\niret")  # fmt: skip
        p.go(AT_WORK + "jmp 6f\n.balign 64\n6: ud2\nnop; nop; nop; nop\n" + PSHUFB + "nop\n" + AT_WORK + DONE)
        assert p.vcpu.stats.direct_trusted == 1
        assert [each % 64 for each in p.log()] == [0, 6]
        assert WORK < p.vcpu.stats.insns < 2 * WORK, "the second half was interpreted"


def test_pages_are_trusted_that_hold_a_younger_instruction_between_them() -> None:
    with OuterRings("direct") as p:
        ends = USER_CODE + PAGE_SIZE
        p.code(f"movl $20000000, %ecx\n1: jmp {ends + 64:#x}\n2: loop 1b" + DONE)
        p.write(p.frame(ends - 2), bytes.fromhex("660f"))
        p.write(p.frame(ends), bytes.fromhex("3800c1"))
        p.code(f"jmp {USER_CODE + 10:#x}", ends + 64)
        p.v.eip = USER_CODE
        p.go()
        assert p.stays[3] > 0
        assert p.vcpu.stats.insns < 30_000_000, "of 60 million"
