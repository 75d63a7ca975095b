"""Instructions in a row that one handler does (compound.c): the oracle is the same code one instruction at a time.

A processor that is stepped decodes blocks of one instruction, where there is nothing in a row.
"""

from __future__ import annotations

import pytest

from tests.vmm.core.bus_processor import PAGE, BusProcessor
from tests.vmm.core.processor import CODE, SCRATCH, assemble
from vmm.vcpu import ExitKind

STACK = 0x200000  # of these tests: its page and the one below are mapped
STEPS_MAX = 5000
SIMPLE = {
    "load": "mov 8(%esi), %eax",
    "load by itself": "mov 8(%edi), %edi; lea -96(%esi), %edi",
    "store": "mov %ebx, 12(%edi)",
    "store a constant": "movl $0x12345678, 16(%esi)",
    "move": "mov %eax, %edx",
    "constant": "mov $77, %ecx",
    "address": "lea 4(%eax, %ebx, 2), %ebp",
    "push": "push %edx",
    "push ESP": "push %esp",
    "pop": "pop %ecx",
    "nop": "nop",
    "add": "add $0x7ffffff5, %eax",
    "subtract": "sub $5, %ebx",
    "exclusive or": "xor %ecx, %edx",
    "zero": "xor %ebx, %ebx",
    "test for zero": "test %eax, %ecx; jz 1f; inc %ebp; 1:",
    "test for others": "test %edx, %edx; jnz 1f; dec %ebp; 1:",
    "call": "call 8f",
}
MOVES = {
    "L": "mov {0}(%esi), %eax", "S": "mov %eax, {0}(%edi)", "M": "mov %eax, %edx", "U": "push %edx", "C": "call 8f",
    "Z": "test %eax, %eax; jz 1f; 1:",
}  # fmt: skip
THREE = (
    "LLL", "LLS", "LLM", "LLZ", "LSL", "LSS", "LSM", "LML", "LMM", "LMS", "SLL", "SLS", "SSL", "SSS", "SML", "SMM",
    "MLL", "MLS", "MLM", "MML", "MMM", "MSL", "MUM", "MMU", "MMC", "MLC", "LMC",
)  # fmt: skip
FUNCTION = """
    call 2f; mov %eax, 8(%edi); call 3f; call 4f; call 5f; mov %esp, %eax; hlt
2:  lea 0(%esi), %esi; push %ebp; mov %esp, %ebp; push %edi; push %esi; push %ebx; mov 4(%esi), %eax
    mov %esi, %edi; pop %ebx; pop %esi; pop %edi; pop %ebp; ret
3:  push %ebp; mov %esp, %ebp; push %edi; push %ebx; add $3, %eax; pop %ebx; pop %edi; pop %ebp; ret
4:  lea 0(%esi), %esi; push %ebp; mov %esp, %ebp; push %ebx; mov -4(%ebp), %ecx; pop %ebx; pop %ebp; ret
5:  push %ebx; push %ecx; push %edx; push %esp; pop %eax; pop %edx; pop %ecx; pop %ebx; cld; ret
"""


def outcome(source: str, *, stepped: bool, stack: int = STACK, missing: bool = False) -> tuple[object, ...]:
    """What a processor can be told by when it halts, in the code or in a handler."""
    cpu = BusProcessor()
    cpu.write(CODE, assemble(source))
    cpu.write(SCRATCH, bytes(n * 37 & 0xFF for n in range(PAGE)))
    cpu.v.r[:8] = [0x10, 0x20, 0x30, 0x40, stack, 0x50, SCRATCH, SCRATCH + 96]
    if missing:
        cpu.map(STACK - 2 * PAGE, 0)
    cpu.vcpu.control.single_step = int(stepped)
    for _ in range(STEPS_MAX):
        last = cpu.vcpu.run(100_000)
        if last.kind not in {ExitKind.QUANTUM, ExitKind.DEBUG}:
            break
    assert last.kind in {ExitKind.HLT, ExitKind.SHUTDOWN}  # where there is no stack for a handler, either
    memory = cpu.memory.read(SCRATCH, PAGE), cpu.memory.read(STACK - 3 * PAGE, 4 * PAGE)
    return list(cpu.v.r[:8]), cpu.v.eip, cpu.v.eflags, cpu.v.cr2, last.kind, memory


@pytest.mark.parametrize("between", ["cld", "cmp %eax, %ebx"], ids=["flags are seen", "flags are not seen"])
@pytest.mark.parametrize("first", SIMPLE)
def test_two_in_a_row(first: str, between: str) -> None:
    pairs = "; ".join(f"{SIMPLE[first]}; {second}; {between}" for second in SIMPLE.values())
    source = f"push $7; push $8; {pairs}; hlt; 8: ret"
    assert outcome(source, stepped=False) == outcome(source, stepped=True)


def test_three_in_a_row() -> None:
    rows = (
        "; ".join(MOVES[letter].format(4 * at + 16 * number) for at, letter in enumerate(row))
        for number, row in enumerate(THREE)
    )
    source = "; cld; ".join(rows) + "; hlt; 8: ret"
    assert outcome(source, stepped=False) == outcome(source, stepped=True)


@pytest.mark.parametrize("missing", [False, True], ids=["both pages", "one page"])
@pytest.mark.parametrize("into_page", range(0, 44, 4))
def test_functions_whose_frames_cross_a_page(into_page: int, missing: bool) -> None:
    """With the lower page missing, the instruction that meets it is the one that faults."""
    stack = STACK - PAGE + into_page
    whole = outcome(FUNCTION, stepped=False, stack=stack, missing=missing)
    assert whole == outcome(FUNCTION, stepped=True, stack=stack, missing=missing)


@pytest.mark.parametrize("at", [PAGE - 8, PAGE - 4, PAGE - 2])
def test_moves_over_the_edge_of_memory(at: int) -> None:
    """The page behind STACK is there, the one behind that a device's would be: here it is missing."""
    edge = STACK - 2 * PAGE - PAGE + at
    source = f"mov ${edge:#x}, %edi; mov 8(%esi), %eax; mov %eax, (%edi); mov 4(%edi), %edx; movl $1, 4(%edi); hlt"
    assert outcome(source, stepped=False, missing=True) == outcome(source, stepped=True, missing=True)


@pytest.mark.parametrize("before", ["mov (%esi), %eax", "nop", "push %eax", "xor %edx, %edx"])
def test_a_store_in_a_row_changes_what_follows(before: str) -> None:
    """The second of the two is changed by the first, or the third by both."""
    source = (
        f"mov $1f, %edi; mov $0x00000063, %ebx; {before}; mov %ebx, 1(%edi); 1: mov $5, %ecx; mov %ecx, %ebp;"
        f"{before}; movl $0x41, 3f + 1; mov %eax, %eax; 3: mov $6, %edx; hlt"
    )
    whole = outcome(source, stepped=False)
    assert whole == outcome(source, stepped=True)
    assert isinstance(whole[0], list) and whole[0][1:3] == [0x63, 0x41]
