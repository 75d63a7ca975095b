"""Direct execution: what ends a stay, and that it is taken up where the guest would have seen it happen.

The judge is the interpreter, which the guests, the conformance programs and real systems judge in turn.
"""

from __future__ import annotations

import platform
import time

import pytest

from tests.vmm.core.processor import CODE32, CODE_SEL, DATA32, FLAT, IF, LDT, LDT_SEL, descriptor, gate, with_dpl
from tests.vmm.outer_rings import (
    CR0_TS,
    CR4_OSFXSR,
    LOG_WORD,
    USER_CODE,
    USER_DATA,
    A,
    D,
    OuterRings,
    U,
    assemble_at,
    same,
)  # fmt: skip
from vmm._core import lib
from vmm.cpuid import cpu_model
from vmm.layout_spec import RunStats
from vmm.memory import PAGE_SIZE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

DONE = "\nint $0x90\n"
NEXT_1 = "\ndecl %edi\njnz 1b"
CALL32 = 0x8C
TSD = 4
DIRTY = 0xDEADBEEF


def run(source: str, ring: int = 3) -> OuterRings:
    """The same source under both; EFLAGS and registers are none of them zero."""

    def prepare(p: OuterRings) -> None:
        p.outer(ring)
        for index in (0, 1, 2, 3, 5, 6, 7):
            p.v.r[index] = 0x11111111 * (index + 1)
        p.v.eflags |= 0x8D5
        p.code(source)

    return same(prepare)


def declined(p: OuterRings, why: str) -> int:
    """How often for this reason: enum decline."""
    stats: RunStats = p.vcpu.stats
    return int(stats.direct_declines[getattr(lib, f"DECLINE_{why}")])


# ---- it runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1, 2, 3])
def test_an_outer_ring_runs_directly(ring: int) -> None:
    p = run("movl $200000, %ecx\n1: addl %ecx, %eax\nroll $3, %eax\nadcl %eax, %edx\ndecl %ecx\njnz 1b" + DONE, ring)
    event = p._event()
    assert event is not None and event.vector == 0x90
    assert [stays > 0 for stays in p.stays] == [ring == each for each in range(4)]
    assert p.vcpu.stats.insns < 10_000, "the loop was interpreted"


def test_the_default_engine_interprets_first_and_goes_direct_when_the_burst_is_long() -> None:
    for count, direct in ((100, False), (100_000, True)):
        with OuterRings("direct") as p:
            p.code(f"movl ${count}, %ecx\n1: loop 1b" + DONE)
            p.handler(0x91, "iret")
            p.v.eip = USER_CODE + PAGE_SIZE
            p.code(f"int $0x91\njmp {USER_CODE:#x}", USER_CODE + PAGE_SIZE)  # a burst begins with a change of the ring
            assert p.go() is not None
            assert (p.stays[3] > 0) == direct


# ---- what ends a stay ------------------------------------------------------------------------------------------------

# By name: the instructions, and the vector that they end in.
ENDS = {
    "int3": ("int3", 3),
    "int3_of_two_bytes": (".byte 0xcd, 3", 3),
    "int3_with_a_prefix": (".byte 0x66\nint3", 3),
    "icebp": (".byte 0xf1", 1),
    "into": ("movb $0x7f, %al\naddb $1, %al\ninto", 4),
    "into_with_a_prefix": ("movb $0x7f, %al\naddb $1, %al\n.byte 0x66\ninto", 4),
    "int_of_the_overflow_vector": ("int $4", 4),
    "bound": (f"movl $5, %eax\nmovl $0, {USER_DATA}\nmovl $3, {USER_DATA + 4}\nbound %eax, {USER_DATA}", 5),
    "divide": ("xorl %ebx, %ebx\ndivl %ebx", 0),
    "ud2": ("ud2", 6),
    "lock_of_a_register": (".byte 0xf0, 0x01, 0xc0", 6),
    "int_80": ("int $0x80", 0x80),
    "int_20": ("int $0x20", 0x20),
    "int_2e": ("int $0x2e", 0x2E),
    "int_ff": ("int $0xff", 0xFF),
    "hlt": ("hlt", 13),
    "cli": ("cli", 13),
    "sti": ("sti", 13),
    "in": ("inb $0x71, %al", 13),
    "out": ("outl %eax, %dx", 13),
    "outs": (f"movl ${USER_DATA}, %esi\nrep outsb", 13),
    "mov_cr3": ("movl %cr3, %eax", 13),
    "rdmsr": ("rdmsr", 13),
    "rdpmc": ("rdpmc", 13),
    "invlpg": ("invlpg 0", 13),
    "sysenter_without_cs": ("sysenter", 13),
    "syscall": (".byte 0x0f, 0x05", 6),
    "far_jump_to_nothing": ("ljmp $0x7f8, $0", 13),
    "load_of_a_kernel_selector": ("movl $0x10, %eax\nmovl %eax, %ds", 13),
    "iret_inward": ("pushfl\npushl $8\npushl $0\niret", 13),
    "fault_of_the_x87": ("fninit\npushl $0x300\nfldcw (%esp)\nfld1\nfldz\nfdivrp\nfdivp\nfwait", 16),
    "fault_of_sse": ("pushl $0x1f00\nldmxcsr (%esp)\nxorps %xmm0, %xmm0\ndivps %xmm0, %xmm0", 19),
    "alignment": ("pushfl\norl $0x40000, (%esp)\npopfl\nmovl 1(%esp), %eax\nint $0x91", 0x91),
    "trap_flag": ("pushfl\norl $0x100, (%esp)\npopfl\nnop\nnop", 1),
    "trap_flag_then_int": ("pushfl\norl $0x100, (%esp)\npopfl\nint $0x91", 0x91),
    "trap_flag_then_int_80": ("pushfl\norl $0x100, (%esp)\npopfl\nint $0x80", 0x80),
    "trap_flag_then_int3": ("pushfl\norl $0x100, (%esp)\npopfl\nint3", 3),
    "trap_flag_then_icebp": ("pushfl\norl $0x100, (%esp)\npopfl\n.byte 0xf1", 1),
    "trap_flag_then_into": ("movb $0x7f, %al\npushfl\norl $0x900, (%esp)\npopfl\ninto", 4),
    "trap_flag_then_divide": ("xorl %ebx, %ebx\npushfl\norl $0x100, (%esp)\npopfl\ndivl %ebx", 0),
    "trap_flag_then_a_loop": ("pushfl\norl $0x100, (%esp)\npopfl\n1: jmp 1b", 1),
    "no_memory": ("movl $7, %ecx\nmovl %ecx, 0x7fff0000", 14),
    "no_memory_for_the_stack": ("movl $0x7fff0000, %esp\npushl %eax", 14),
    "no_memory_for_code": ("movl $0x7fff0ffd, %eax\njmp *%eax", 14),
    "kernel_memory": ("movl 0x10000, %eax", 14),
    "end_of_memory": ("movl 0xfffffffe, %eax", 14),
    "middle_of_a_string": (f"movl $0x5000, %ecx\nmovl ${USER_DATA + 0x3C000}, %edi\nrep stosb", 14),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_stay_ends_as_the_instruction_does(name: str) -> None:
    source, vector = ENDS[name]
    p = run("movl $50, %ecx\n9: loop 9b\n" + source + DONE)
    event = p._event()
    assert event is not None and event.vector == vector


def test_int3_is_found_again_where_nothing_lies_before_it() -> None:
    def prepare(p: OuterRings) -> None:
        p.code("int3" + DONE, USER_CODE)
        p.code(f"movl $50, %ecx\n9: loop 9b\njmp {USER_CODE:#x}", USER_CODE + PAGE_SIZE)
        p.v.eip = USER_CODE + PAGE_SIZE

    event = same(prepare)._event()
    assert event is not None and (event.vector, event.eip) == (3, USER_CODE + 1)


def test_flags_are_the_guests_own() -> None:
    p = run("""
        xorl %esi, %esi
        movl $0x00000000, %eax; call try
        movl $0x003ffed5, %eax; call try            # TF clear, all else set: IF, IOPL, NT, RF, VM, AC, ID
        movl $0x00004400, %eax; call try
        movl $0x00040ad5, %eax; call try
        int $0x90
        try: pushl %eax; popfl; movl $20, %ecx
        1: decl %ecx; jnz 1b
        pushfl; popl %ebx; roll $7, %esi; xorl %ebx, %esi
        ret
    """)
    assert p.stays[3] > 0


# ---- instructions that the host would answer itself ------------------------------------------------------------------

ANSWERED = {
    "cpuid": "movl $1, %eax\ncpuid",
    "cpuid_vendor": "xorl %eax, %eax\ncpuid",
    "cpuid_hypervisor": "movl $0x40000000, %eax\ncpuid",
    "sgdt": f"sgdt {USER_DATA}",
    "sidt": f"sidt {USER_DATA}",
    "smsw": "smsw %eax",
    "sldt": "sldt %eax",
    "str": "str %eax",
    "lar": "movl $0x3b, %ebx\nlarl %ebx, %eax\nmovl $0x23, %ebx\nlarl %ebx, %edx",
    "lsl": "movl $0x2b, %ebx\nlsll %ebx, %eax\nmovl $0x33, %ebx\nlsll %ebx, %edx",
    "verw": "movl $0x2b, %ebx\nverw %bx",
    "push_cs": "pushl %cs\npopl %eax\npushl %gs",
    "mov_from_ds": "movl %ds, %eax\nmovw %ss, %bx",
    "load_es": "movl $0x43, %eax\nmovl %eax, %es\nmovl %es:(%esp), %ebx",
    "null_fs": "xorl %eax, %eax\nmovl %eax, %fs",
    "pop_gs": "pushl $0\npopl %gs",
    "host_code_selector": "movl $0x23, %eax\nmovl %eax, %fs",
    "host_data_selector": "movl $0x2b, %eax\nmovl %eax, %fs",
    "far_call": "lcall $0x3b, $1f\n1: movl (%esp), %eax",
}


@pytest.mark.parametrize("name", ANSWERED)
def test_the_guest_gets_its_own_answer(name: str) -> None:
    p = run("movl $50, %ecx\n9: loop 9b\n" + ANSWERED[name] + DONE)
    assert p._event() is not None


ACROSS = {
    "cpuid": ("cpuid", 1), "sgdt": (f"sgdt {USER_DATA}", 1), "sgdt_modrm": (f"sgdt {USER_DATA}", 2),
    "str": ("str %eax", 1), "push": ("pushl %fs", 1), "lar": ("larl %ebx, %eax", 1), "mov": ("movl %ds, %eax", 1),
    "far_call": ("lcall $0x3b, $1f\n1:", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ACROSS)
def test_an_instruction_across_two_pages_gets_it_too(name: str) -> None:
    source, split = ACROSS[name]
    p = run(f"movl $50, %ecx\n9: loop 9b\nmovl $1, %eax\njmp 1f\n.org {PAGE_SIZE - split}\n1: {source}" + DONE)
    assert p._event() is not None


# Bytes before and behind the end of a page that are nothing sensitive: an instruction that lies across, whose second
# part would be POP ES; and one that ends there, whose last byte would make POP FS with the next one.
HARMLESS = {
    "second_part": ("b8", "07332211"),
    "end_and_beginning": ("b81122330f", f"a1{USER_DATA.to_bytes(4, 'little').hex()}"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_code_across_two_pages_runs_directly(name: str) -> None:
    first, second = (bytes.fromhex(part) for part in HARMLESS[name])
    end = USER_CODE + PAGE_SIZE
    with OuterRings() as p:
        p.code(f"movl $20000, %ecx\njmp {end - len(first) - 2:#x}")
        p.write(p.frame(end - len(first) - 2), b"\x90\x90" + first)
        p.write(p.frame(end), second)
        p.code(f"decl %ecx\njnz {end - len(first) - 2:#x}" + DONE, end + len(second))
        p.go()
        assert p.v.r[1] == 0
        assert p.vcpu.stats.insns < 1000


def test_a_page_with_such_an_instruction_is_declined_and_others_are_not() -> None:
    other = USER_CODE + PAGE_SIZE

    def prepare(p: OuterRings) -> None:
        p.code(f"movl $200, %edi\n1: call {other:#x}\nxorl %eax, %eax\ncpuid\ndecl %edi\njnz 1b" + DONE)
        p.code("movl $500, %ecx\n1: loop 1b\nret", other)

    p = same(prepare)
    assert declined(p, "CODE") > 0
    assert p.stays[3] > 100


def test_the_time_stamp_counter_is_the_guests() -> None:
    with OuterRings() as p:
        since = time.monotonic_ns()
        p.interrupts.stun()
        p.interrupts.resume()
        p.go("rdtsc\nmovl %eax, %esi\nmovl %edx, %edi\nmovl $30000, %ecx\n1: loop 1b\nrdtsc" + DONE)
        first, second = p.v.r[6] | p.v.r[7] << 32, p.v.r[0] | p.v.r[2] << 32
        assert 0 < first < second < time.monotonic_ns() - since + 10**9, "guest time, not the host's"
        assert p.stays[3] > 0


def test_where_the_guest_is_at_work_the_time_stamp_counter_traps() -> None:
    """A page with RDTSC is interpreted for some milliseconds, then runs directly; the counter is the guest's still."""
    loop = "movl $2000000, %ecx\n1: loop 1b\n"
    with OuterRings("direct") as p:
        p.interrupts.stun()
        p.interrupts.resume()
        p.go("rdtsc\nmovl %eax, %esi\nmovl %edx, %edi\n" + loop * 5 + "rdtsc" + DONE)
        assert p.stays[3] > 0 and declined(p, "CODE") > 0
        first, second = p.v.r[6] | p.v.r[7] << 32, p.v.r[0] | p.v.r[2] << 32
        assert 0 < first < second < 10**12


def test_the_time_stamp_counter_may_be_forbidden() -> None:
    def prepare(p: OuterRings) -> None:
        p.v.cr4 |= TSD
        p.code("movl $50, %ecx\n9: loop 9b\nrdtsc" + DONE)

    event = same(prepare)._event()
    assert event is not None and event.vector == 13


# ---- what is declined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "cr0", "why"),
    [(0, 0, "FLAGS"), (IF | 0x3000, 0, "FLAGS"), (IF | 0x4000, 0, "FLAGS"), (IF, CR0_TS, "FPU"), (IF, 4, "FPU")],
    ids=["if_clear", "iopl_3", "nt", "ts", "em"],
)
def test_it_is_declined_where_the_host_would_do_something_else(flags: int, cr0: int, why: str) -> None:
    def prepare(p: OuterRings) -> None:
        p.outer(3, flags)
        p.v.cr0 |= cr0
        p.code("movl $500, %ecx\n1: loop 1b\npushfl\npopl %eax" + DONE)

    p = same(prepare)
    assert p.stays == [0, 0, 0, 0]
    assert declined(p, why) > 0


def test_code_of_16_bits_is_declined() -> None:
    def prepare(p: OuterRings) -> None:
        p.hidden("cs", CODE_SEL[3], USER_CODE, 0xFFFF, with_dpl(CODE32, 3))
        p.v.eip = 0
        p.write(p.frame(USER_CODE), b"\xb9\xff\x00" b"\xe2\xfe" b"\xcd\x90")  # mov cx, 255; loop $; int 90h

    p = same(prepare)
    assert p.stays == [0, 0, 0, 0] and declined(p, "MODE") > 0


def test_a_selector_loaded_before_a_page_is_missing_stays_loaded() -> None:
    """The load lies within another instruction, so the scan does not keep this page from running directly."""
    p = run(f"""
        movl $50, %ecx
        9: loop 9b
        xorl %eax, %eax
        movl $1f + 1, %edx
        jmp *%edx
        1: .byte 0xb8, 0x8e, 0xe8, 0x90, 0x90  # MOV EAX, with MOV GS, AX and NOPs in it
        incl {USER_DATA + 0x3000:#x}""" + DONE)
    assert p.vcpu.stats.direct_hidden > 0
    assert p.v.seg[5].selector == 0


@pytest.mark.parametrize("instruction", ["xorps %xmm0, %xmm0", "paddb %xmm1, %xmm2", "stmxcsr 0x50000"])
def test_sse_is_undefined_until_the_system_allows_it(instruction: str) -> None:
    def prepare(p: OuterRings) -> None:
        p.v.cr4 &= ~CR4_OSFXSR
        p.code(f"movl $50, %ecx\n9: loop 9b\n{instruction}" + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None and event.vector == 6
    assert declined(p, "CODE") > 0


def test_code_without_sse_runs_directly_before_the_system_allows_it() -> None:
    def prepare(p: OuterRings) -> None:
        p.v.cr4 &= ~CR4_OSFXSR
        p.code("movl $50, %ecx\n9: loop 9b\npaddb %mm1, %mm2\nmovnti %eax, -8(%esp)\nsfence" + DONE)

    p = same(prepare)
    assert p.stays[3] > 0 and declined(p, "CODE") == 0


def test_sse_that_runs_becomes_undefined_when_the_system_forbids_it() -> None:
    """And defined again: the page is in the window all the time, and its bytes are the same."""

    def prepare(p: OuterRings) -> None:
        p.handler(0x91, f"movl %cr4, %eax\nxorl ${CR4_OSFXSR}, %eax\nmovl %eax, %cr4\niret")
        p.handler(6, LOG_WORD + "log_word %ecx\naddl $3, (%esp)\niret")  # XORPS has three bytes
        p.code("movl $6, %ecx\n1: xorps %xmm0, %xmm0\nint $0x91\nloop 1b" + DONE)

    p = same(prepare)
    assert p.log() == [5, 3, 1]
    assert p.stays[3] > 0


# ---- segments --------------------------------------------------------------------------------------------------------


def with_ldt(p: OuterRings, **segments: tuple[int, int, int, int]) -> None:
    """name=(base, 20-bit limit, access, flags), each in the LDT and loaded."""
    for index, (name, (base, limit, access, flags)) in enumerate(segments.items()):
        selector = index * 8 | 7
        p.set_descriptor(selector, descriptor(base, limit, access, flags))
        last = (limit << 12 | 0xFFF) if flags & 0x8000 else limit
        p.hidden(name, selector, base, last, access & 0xFF | flags)
    p.hidden("ldtr", LDT_SEL, LDT, 0xFF, 0x82)


DATA3, CODE3 = with_dpl(DATA32, 3), with_dpl(CODE32, 3)
B32 = 0x4000
READ_ONLY, DOWN = DATA3 & ~2, DATA3 | 4

SEGMENTS = {
    "base": ({"fs": (USER_DATA + 0x123, 0xFFF, DATA3, B32)}, "movl %fs:0x10, %eax\nmovl %eax, %fs:0xffc", 0x90),
    "limit": ({"fs": (USER_DATA, 0xFFF, DATA3, B32)}, "movl %fs:0xffd, %eax", 13),
    "limit_in_pages": ({"fs": (USER_DATA, 1, DATA3, FLAT)}, "movl %fs:0x1ffc, %eax\nmovl %fs:0x1ffd, %eax", 13),
    "read_only": ({"fs": (USER_DATA, 0xFFF, READ_ONLY, B32)}, "movl %fs:0, %eax\nmovl %eax, %fs:0", 13),
    "down": ({"fs": (USER_DATA, 0xFFF, DOWN, B32)}, "movl %fs:0x1000, %eax\nmovl %fs:0xffc, %eax", 13),
    "down_of_16_bits": ({"fs": (USER_DATA, 0xFFF, DOWN, 0)}, "movl %fs:0xfffc, %eax\nmovl %fs:0x10000, %eax", 13),
    "code": ({"fs": (USER_CODE, 0xFFF, CODE3, B32)}, "movl %fs:0, %eax\nmovl %eax, %fs:0", 13),
    "wraps": (
        {"fs": (USER_DATA - 0x1000, 0xFFFFF, DATA3, FLAT)}, "movl %fs:0x1000, %eax\nmovl %fs:0xc0000000, %eax", 14,
    ),
    "two": (
        {"fs": (USER_DATA, 0x7F, DATA3, B32), "gs": (USER_DATA + 0x80, 0x7F, DATA3, B32)},
        "movl $1, %fs:0x7c\nmovl $2, %gs:0\nmovl %fs:0x7c, %eax\naddl %gs:0, %eax\nmovl %gs:0x80, %eax", 13,
    ),
    "stack": (
        {"ss": (USER_DATA, 0xFFF, DATA3, B32)},
        "movl $0x1000, %esp\npushl $5\npopl %eax\nmovl $2, %esp\npushl $6", 12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_segment_of_the_ldt_is_the_guests(name: str) -> None:
    segments, source, vector = SEGMENTS[name]

    def prepare(p: OuterRings) -> None:
        with_ldt(p, **segments)
        p.write(p.frame(USER_DATA), bytes(range(256)) * 32)
        p.set_gate(vector, gate(CODE_SEL[0], 0x8000 + vector * 16, with_dpl(0x8E, 3)))
        p.code("movl $50, %ecx\n9: loop 9b\n" + source + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None and event.vector == vector
    assert p.stays[3] > 0


def test_code_may_lie_in_a_segment_with_a_base() -> None:
    def prepare(p: OuterRings) -> None:
        with_ldt(p, cs=(USER_CODE, 0xFFF, CODE3, B32))
        p.write(p.frame(USER_CODE), assemble_at("movl $50, %ecx\n1: loop 1b\njmp 0xfff\n.org 0xfff\nnop", 0))
        p.v.eip = 0

    p = same(prepare)
    event = p._event()
    assert event is not None and (event.vector, event.eip) == (13, 0x1000)
    assert p.stays[3] > 0


def test_many_segments_do_not_wear_out_the_hosts_table() -> None:
    """The kernel gives GS another base at each call: more than there are slots in the world's LDT."""
    turns = 200

    def prepare(p: OuterRings) -> None:
        with_ldt(p, gs=(USER_DATA, 0xFFF, DATA3, B32))
        p.handler(0x91, f"addw $4, {LDT + 2:#x}\npushl $7\npopl %gs\niret")
        p.code(f"movl ${turns}, %edi\n1: incl %gs:0\naddl %edi, %gs:4\nint $0x91\ndecl %edi\njnz 1b" + DONE)

    p = same(prepare)
    assert p.stays[3] >= turns
    assert p.read32(p.frame(USER_DATA) + 4 * turns) == 1


# ---- FPU -------------------------------------------------------------------------------------------------------------

# Twenty rounds over fresh pages: sums in ST0, XMM0 and MM-free integers, at each page a hidden fault and a system call.
SUMS = f"""
    fninit
    pushl $0x27f; fldcw (%esp)
    fldz
    pushl $0x1f80; ldmxcsr (%esp)
    xorps %xmm0, %xmm0
    movl $0x3f8ccccd, %eax; movd %eax, %xmm1; shufps $0, %xmm1, %xmm1
    movl $20, %edi
    movl ${USER_DATA}, %esi
1:  movl $300, %ecx
2:  fld1; fidivs (%esi); faddp
    mulps %xmm1, %xmm0; addps %xmm1, %xmm0
    incl (%esi)
    loop 2b
    int $0x91
    cvttps2dq %xmm0, %xmm2
    movups %xmm0, 16(%esi)
    fsts 32(%esi)
    addl $0x1000, %esi
    decl %edi
    jnz 1b
    fstpt {USER_DATA + 0x30000}
    stmxcsr {USER_DATA + 0x30010}
    fnstcw {USER_DATA + 0x30020}
    fnstsw {USER_DATA + 0x30022}
"""


def test_the_fpu_is_kept_through_faults_and_calls() -> None:
    def prepare(p: OuterRings) -> None:
        for page in range(20):
            p.change(USER_DATA + page * PAGE_SIZE, clear=A | D)
        p.write(p.frame(USER_DATA), bytes(21 * PAGE_SIZE))
        for page in range(21):
            p.write32(p.frame(USER_DATA) + page * PAGE_SIZE, 1)
        p.handler(0x91, "fnstcw 0x6f100\nmovups %xmm0, 0x6f110\nxorps %xmm3, %xmm3\niret")
        p.code(SUMS + DONE)

    p = same(prepare)
    assert p.stays[3] >= 40
    assert p.vcpu.stats.direct_hidden >= 20


def test_mmx_state_is_the_x87s() -> None:
    p = run(f"fninit\nfld1\nmovl $0x12345678, %eax\nmovd %eax, %mm3\nint $0x80\nfnsave {USER_DATA}" + DONE)
    assert p._event() is not None


# ---- rings and calls -------------------------------------------------------------------------------------------------


def test_sysenter_reaches_the_guests_kernel() -> None:
    def prepare(p: OuterRings) -> None:
        where = p.handler(0x91, LOG_WORD + "log_word %eax\nmovl %ebp, %ecx\nsysexit")
        p.v.msr_sysenter_cs, p.v.msr_sysenter_eip, p.v.msr_sysenter_esp = CODE_SEL[0], where, 0x20000 - 0x1000
        # SYSEXIT wants CS + 16 and + 24 to be flat segments of ring 3
        p.set_descriptor(CODE_SEL[0] + 16, descriptor(0, 0xFFFFF, CODE3, FLAT))
        p.set_descriptor(CODE_SEL[0] + 24, descriptor(0, 0xFFFFF, DATA3, FLAT))
        p.code(f"""
            movl $3, %edi
        1:  movl $100, %ecx
        2:  loop 2b
            movl %edi, %eax; movl $3f, %edx; movl %esp, %ebp
            jmp {USER_CODE + PAGE_SIZE:#x}
        3:  decl %edi; jnz 1b
        """ + DONE)
        p.code("sysenter", USER_CODE + PAGE_SIZE)

    p = same(prepare)
    assert p.log() == [3, 2, 1]
    assert p.stays[3] > 0


def test_a_call_gate_changes_the_ring_and_the_view() -> None:
    """Ring 3 calls ring 1, which works on a page of the supervisor's; ring 3 cannot read it before or after."""

    def prepare(p: OuterRings) -> None:
        p.change(USER_DATA, clear=U)
        p.set_descriptor(0x60, gate(CODE_SEL[1], USER_CODE + PAGE_SIZE, with_dpl(CALL32, 3)))
        p.code(f"""
            movl $5, %edi
        1:  movl $60, %ecx
        2:  loop 2b
            lcall $0x60, $0
            addl $3, {USER_DATA + PAGE_SIZE}
            decl %edi; jnz 1b
            jmp {USER_CODE + 2 * PAGE_SIZE:#x}
        """)
        p.code(f"movl $60, %ecx\n1: addl %ecx, {USER_DATA}\nloop 1b\nlret", USER_CODE + PAGE_SIZE)
        p.code(f"movl {USER_DATA}, %eax", USER_CODE + 2 * PAGE_SIZE)
        p.write32(p.frame(USER_DATA), 0)

    p = same(prepare)
    event = p._event()
    assert event is not None and (event.vector, event.error, p.v.cr2) == (14, 5, USER_DATA)
    assert p.read32(p.frame(USER_DATA)) == 5 * 60 * 61 // 2
    assert p.vcpu.stats.direct_hidden + p.vcpu.stats.window_switches > 0


def test_each_system_call_is_rewound_by_its_length() -> None:
    def prepare(p: OuterRings) -> None:
        p.handler(0x80, LOG_WORD + "log_word %eax\nincl %eax\niret")
        p.code("xorl %eax, %eax\nmovl $40, %edi\n1: int $0x80\nmovl $30, %ecx\n2: loop 2b\ndecl %edi\njnz 1b" + DONE)

    p = same(prepare)
    assert p.log() == list(range(40))
    assert p.vcpu.stats.direct_calls > 0


def test_a_page_that_only_makes_system_calls_is_left_to_the_interpreter() -> None:
    stub = USER_CODE + PAGE_SIZE

    def prepare(p: OuterRings) -> None:
        p.handler(0x80, "incl %eax\niret")
        p.code(f"xorl %eax, %eax\nmovl $60, %edi\n1: call {stub:#x}\nmovl $30, %ecx\n2: loop 2b" + NEXT_1 + DONE)
        p.code("int $0x80\nret", stub)

    p = same(prepare)
    assert p.v.r[0] == 60
    assert 0 < p.vcpu.stats.direct_calls < 30


def test_the_model_is_what_cpuid_tells_everywhere() -> None:
    p = run("movl $50, %ecx\n9: loop 9b\nxorl %eax, %eax\ncpuid" + DONE)
    leaf = next(leaf for leaf in cpu_model("") if leaf.leaf == 0)
    assert [p.v.r[index] for index in (0, 1, 2, 3)] == [leaf.eax, leaf.ecx, leaf.edx, leaf.ebx]
