"""System registers and instructions: system.c, msr.c, descriptor.c, segment.c, stack.c."""

import pytest

from tests.vmm.core.processor import (
    AC,
    CODE,
    CODE32,
    CODE_SEL,
    DATA32,
    DATA_SEL,
    FLAT,
    FREE,
    IF,
    IOPL3,
    LDT_SEL,
    NT,
    SCRATCH,
    STACK_TOPS,
    TSS2_SEL,
    TSS_SEL,
    VIF,
    VIP,
    P,
    Processor,
    descriptor,
    gate,
    with_dpl,
)

GP, NP, SS, UD, DB, BR = 13, 11, 12, 6, 1, 5
CR0, CR4 = 0x11, 0


@pytest.fixture
def cpu() -> Processor:
    return Processor()


def outcome(cpu: Processor, source: str) -> tuple[int, int | None] | None:
    event = cpu.run(source)
    return (event.vector, event.error) if event else None


# ---- segment loads -----------------------------------------------------------------------------------------------

LOADS = [
    #  sreg  cpl  descriptor                                                         rpl  expected
    ("ds", 0, descriptor(0, 0xFFFFF, DATA32, FLAT), 0, None),
    ("ds", 0, descriptor(0, 0xFFFFF, 0x99, FLAT), 0, (GP, FREE)),                     # execute-only
    ("ds", 0, descriptor(0, 0x67, 0x89), 0, (GP, FREE)),                              # a system descriptor
    ("es", 0, descriptor(0, 0xFFFFF, DATA32 & ~P, FLAT), 0, (NP, FREE)),
    ("fs", 3, descriptor(0, 0xFFFFF, with_dpl(DATA32, 2), FLAT), 3, (GP, FREE)),
    ("gs", 0, descriptor(0, 0xFFFFF, with_dpl(DATA32, 2), FLAT), 3, (GP, FREE)),      # RPL > DPL
    ("gs", 3, descriptor(0, 0xFFFFF, CODE32 | 4, FLAT), 3, None),                     # conforming: no privilege check
    ("gs", 3, descriptor(0, 0xFFFFF, CODE32, FLAT), 3, (GP, FREE)),
    ("ss", 0, descriptor(0, 0xFFFFF, DATA32 & ~P, FLAT), 0, (SS, FREE)),              # #SS, not #NP
    ("ss", 0, descriptor(0, 0xFFFFF, 0x91, FLAT), 0, (GP, FREE)),                     # read-only
    ("ss", 0, descriptor(0, 0xFFFFF, CODE32, FLAT), 0, (GP, FREE)),
    ("ss", 0, descriptor(0, 0xFFFFF, with_dpl(DATA32, 1), FLAT), 0, (GP, FREE)),
    ("ss", 0, descriptor(0, 0xFFFFF, DATA32, FLAT), 1, (GP, FREE)),
    ("ss", 3, descriptor(0, 0xFFFFF, with_dpl(DATA32, 3), FLAT), 3, None),
]


@pytest.mark.parametrize(("sreg", "cpl", "value", "rpl", "expected"), LOADS)
@pytest.mark.parametrize("how", ["mov", "pop", "lxs"])
def test_loads_of_segment_registers(
    cpu: Processor, how: str, sreg: str, cpl: int, value: int, rpl: int, expected: tuple[int, int] | None
) -> None:
    cpu.set_descriptor(FREE, value)
    cpu.ring(cpl)
    cpu.write(SCRATCH, bytes(4) + (FREE | rpl).to_bytes(2, "little"))
    esp = cpu.v.r[4]
    source = {
        "mov": f"mov ${FREE | rpl}, %eax; mov %eax, %{sreg}",
        "pop": f"push ${FREE | rpl}; pop %{sreg}",
        "lxs": f"l{sreg} {SCRATCH:#x}, %eax",
    }[how]
    found = outcome(cpu, source + "; int $0xff")
    assert found == (expected or (0xFF, None))
    if expected is None:
        assert cpu.selector(sreg) == FREE | rpl or sreg == "ss"
    if how == "pop" and expected and cpl == 0:
        assert cpu.v.r[4] == esp - 4 - 16       # ESP is as before the POP


def test_null_selectors(cpu: Processor) -> None:
    assert outcome(cpu, "mov $3, %eax; mov %eax, %es; int $0xff") == (0xFF, None)
    assert cpu.unusable("es") and cpu.selector("es") == 3
    cpu = Processor()
    assert outcome(cpu, "xor %eax, %eax; mov %eax, %ss") == (GP, 0)
    cpu = Processor()
    assert outcome(cpu, "xor %eax, %eax; mov %eax, %ds; mov (%eax), %eax") == (GP, 0)


def test_unreal_mode_keeps_limits(cpu: Processor) -> None:
    """Leaving protected mode with a 4 GiB DS; a load in real mode changes the base alone."""
    cpu.write32(0x200000, 0xCAFE)
    cpu.hidden("cs", CODE >> 4, CODE, 0xFFFF, 0x9B)
    cpu.v.eip, cpu.v.idtr.base = 0, 0
    cpu.run(
        "mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0; ljmp $0x1000, $1f; 1: mov $0x10, %ax; mov %ax, %ds;"
        "mov $0x1fff00, %ebx; addr32 mov (%ebx), %ecx; hlt", bits=16,
    )  # fmt: skip
    assert cpu.v.r[1] & 0xFFFF == 0xCAFE
    assert (cpu.v.seg[3].base, cpu.v.seg[3].limit) == (0x100, 0xFFFFFFFF)


def test_push_of_a_segment_register_writes_one_word(cpu: Processor) -> None:
    sp = cpu.v.r[4]
    cpu.write32(sp - 4, 0xAAAAAAAA)
    cpu.run("push %ds; hlt")
    assert (cpu.v.r[4], cpu.read32(sp - 4)) == (sp - 4, 0xAAAA0000 | DATA_SEL[0])


# ---- LAR, LSL, VERR, VERW, ARPL ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpl", "selector", "lar", "lsl", "verr", "verw"),
    [
        (0, DATA_SEL[0], 0xCF9300, 0xFFFFFFFF, True, True),
        (3, DATA_SEL[0], None, None, False, False),
        (3, DATA_SEL[3], 0xCFF300, 0xFFFFFFFF, True, True),
        (0, CODE_SEL[0], 0xCF9B00, 0xFFFFFFFF, True, False),
        (0, TSS_SEL, 0x8B00, 0x67, False, False),
        (0, LDT_SEL, 0x8200, 0xFF, False, False),
        (0, FREE, 0x8C00, None, False, False),              # a call gate has rights but no limit
        (0, FREE + 8, None, None, False, False),            # an interrupt gate has neither
        (0, FREE + 16, 0x1100, 0x7FF, True, False),         # not present, read-only
        (3, FREE + 24, 0xCF9F00, 0xFFFFFFFF, True, False),  # conforming: seen from everywhere
        (0, 0, None, None, False, False),
        (0, 0x1000, None, None, False, False),
    ],
)
def test_what_descriptors_answer(
    cpu: Processor, cpl: int, selector: int, lar: int | None, lsl: int | None, verr: bool, verw: bool
) -> None:
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], 0, 0x8C))
    cpu.set_descriptor(FREE + 8, gate(CODE_SEL[0], 0, 0x8E))
    cpu.set_descriptor(FREE + 16, descriptor(0, 0x7FF, 0x11))
    cpu.set_descriptor(FREE + 24, descriptor(0, 0xFFFFF, CODE32 | 4, FLAT))
    cpu.ring(cpl)
    source = (
        f"mov ${selector}, %eax; mov $-2, %ebx; mov $-2, %ecx; xor %edx, %edx; lar %eax, %ebx; setz %dl;"
        "lsl %eax, %ecx; setz %dh; verr %ax; pushf; pop %esi; verw %ax; pushf; pop %edi; int $0xff"
    )
    assert outcome(cpu, source) == (0xFF, None)
    ebx, ecx, edx, esi, edi = (cpu.v.r[i] for i in (3, 1, 2, 6, 7))
    assert (ebx if edx & 1 else None) == lar
    assert (ecx if edx & 0x100 else None) == lsl
    assert (bool(esi & 0x40), bool(edi & 0x40)) == (verr, verw)
    assert lar is not None or ebx == 0xFFFFFFFE


def test_arpl(cpu: Processor) -> None:
    cpu.run("mov $0x12340040, %eax; mov $3, %ebx; arpl %bx, %ax; pushf; arpl %bx, %ax; pushf; hlt")
    assert cpu.v.r[0] == 0x12340043
    assert [flags & 0x40 for flags in cpu.words(cpu.v.r[4], 2)] == [0, 0x40]


# ---- tables ------------------------------------------------------------------------------------------------------


def test_sgdt_stores_all_of_the_base_and_lgdt16_loads_24_bits(cpu: Processor) -> None:
    cpu.v.gdtr.base = 0x12001000
    cpu.run(f"sgdt {SCRATCH:#x}; data16 sgdt {SCRATCH + 8:#x}; data16 lgdt {SCRATCH:#x}; hlt")
    assert cpu.memory.read(SCRATCH, 6) == cpu.memory.read(SCRATCH + 8, 6) == b"\xff\x0f\x00\x10\x00\x12"
    assert cpu.v.gdtr.base == 0x1000


@pytest.mark.parametrize(
    ("insn", "selector", "expected"),
    [
        ("lldt", DATA_SEL[0], (GP, DATA_SEL[0])),
        ("lldt", 0x0C, (GP, 0x0C)),
        ("lldt", FREE, (NP, FREE)),
        ("lldt", 0x1000, (GP, 0x1000)),
        ("ltr", 0, (GP, 0)),
        ("ltr", TSS_SEL, (GP, TSS_SEL)),        # busy
        ("ltr", LDT_SEL, (GP, LDT_SEL)),
        ("ltr", FREE + 8, (NP, FREE + 8)),
    ],
)
def test_lldt_and_ltr_check(cpu: Processor, insn: str, selector: int, expected: tuple[int, int]) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFF, 0x02))
    cpu.set_descriptor(FREE + 8, descriptor(0, 0x67, 0x09))
    assert outcome(cpu, f"mov ${selector}, %eax; {insn} %ax") == expected


def test_ltr_sets_busy(cpu: Processor) -> None:
    cpu.run(f"mov ${TSS2_SEL}, %eax; ltr %ax; str %ebx; sldt %ecx; hlt")
    assert cpu.read32(0x1000 + TSS2_SEL + 4) >> 8 & 0xFF == 0x8B
    assert (cpu.v.r[3], cpu.v.r[1]) == (TSS2_SEL, LDT_SEL)


# ---- control and debug registers ---------------------------------------------------------------------------------

PG, NW, CD = 0x80000000, 0x20000000, 0x40000000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"mov ${PG | 0x10}, %eax; mov %eax, %cr0", (GP, 0)),
        (f"mov ${NW | 0x11}, %eax; mov %eax, %cr0", (GP, 0)),
        (f"mov ${NW | CD | 0x11}, %eax; mov %eax, %cr0", None),
        ("mov $0x800, %eax; mov %eax, %cr4", (GP, 0)),
        ("mov $0x7df, %eax; mov %eax, %cr4", None),
        (".byte 0x0f, 0x20, 0xc8", (UD, None)),         # CR1
        (".byte 0x0f, 0x20, 0xe8", (UD, None)),         # CR5
        ("mov $8, %eax; mov %eax, %cr4; mov %db4, %eax", (UD, None)),
        ("mov %db4, %eax", None),
        ("mov $0x2000, %eax; mov %eax, %db7; mov %db0, %eax", (DB, None)),
        ("mov $0x999, %ecx; rdmsr", (GP, 0)),
        ("mov $2, %ecx; rdpmc", (GP, 0)),
        (".byte 0x0f, 0x01, 0xf8", (UD, None)),         # INVLPG of a register
    ],
)
def test_system_registers(cpu: Processor, source: str, expected: tuple[int, int | None] | None) -> None:
    assert outcome(cpu, source + "; hlt") == expected


def test_gd_is_cleared_for_its_handler(cpu: Processor) -> None:
    cpu.run("mov $0x2000, %eax; mov %eax, %db7; mov %eax, %db0")
    assert cpu.v.dr[6] & 0x2000
    assert cpu.v.dr[7] == 0x400
    assert cpu.v.dr[0] == 0


def test_fixed_bits_of_registers(cpu: Processor) -> None:
    cpu.run(
        "mov $-1, %eax; mov %eax, %db6; mov $0xffffd8ff, %eax; mov %eax, %db7; mov $1, %eax; mov %eax, %cr0; hlt"
    )
    assert cpu.v.dr[6] == 0xFFFFEFFF
    assert cpu.v.dr[7] == 0xFFFF04FF
    assert cpu.v.cr0 == 0x11


def test_lmsw_sets_but_does_not_clear_pe(cpu: Processor) -> None:
    cpu.run("mov $0xfffe, %eax; lmsw %ax; smsw %ebx; mov $-1, %ecx; smsw %cx; hlt")
    assert (cpu.v.cr0, cpu.v.r[3], cpu.v.r[1]) == (0x1F, 0x1F, 0xFFFF001F)


def test_pdptes_are_checked_when_loaded(cpu: Processor) -> None:
    cpu.v.cr4 |= 0x20
    cpu.write(0x100000, (0x101001).to_bytes(8, "little") + (0x102003).to_bytes(8, "little"))
    assert outcome(cpu, f"mov $0x100000, %eax; mov %eax, %cr3; mov ${PG | 0x11}, %eax; mov %eax, %cr0") == (GP, 0)
    assert cpu.v.cr0 == 0x11
    cpu = Processor()
    cpu.v.cr4 |= 0x20
    cpu.write(0x100000, (0x101001).to_bytes(8, "little"))
    for page in range(512):
        cpu.write(0x102000 + 8 * page, (page << 12 | 3).to_bytes(8, "little"))
    cpu.write(0x101000, (0x102003).to_bytes(8, "little"))
    assert outcome(cpu, f"mov $0x100000, %eax; mov %eax, %cr3; mov ${PG | 0x11}, %eax; mov %eax, %cr0; hlt") is None
    assert list(cpu.v.pdpte) == [0x101001, 0, 0, 0]


@pytest.mark.parametrize(
    "insn",
    [
        "hlt", "clts", "lmsw %ax", "invlpg (%eax)", "wbinvd", "invd", "rdmsr", "wrmsr", "mov %cr0, %eax",
        "mov %eax, %cr3", "mov %db0, %eax", "mov %eax, %db7", "lgdt 0x60000", "lidt 0x60000", "lldt %ax", "ltr %ax",
        "cli", "sti", "in $1, %al", "out %eax, $1", "rdpmc", "sysexit",
    ],
)  # fmt: skip
def test_privileged_in_ring_3(cpu: Processor, insn: str) -> None:
    cpu.ring(3)
    assert outcome(cpu, insn) == (GP, 0)


# ---- flags and stack ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpl", "before", "image", "after"),
    [
        (0, 0, 0xFFFFFEFF, IF | IOPL3 | NT | AC | 0x200000 | 0xED7),
        (0, IF | IOPL3 | NT, 0, 2),
        (3, IF, IOPL3, IF | 2),                             # neither IOPL nor IF
        (3, IOPL3, IF | 2, IOPL3 | IF | 2),                 # CPL <= IOPL: IF alone
        (3, VIP | VIF, 0, VIP | VIF | 2),
    ],
)
def test_popf(cpu: Processor, cpl: int, before: int, image: int, after: int) -> None:
    cpu.ring(cpl)
    cpu.v.eflags |= before
    event = cpu.run(f"push ${image - (1 << 32 if image >> 31 else 0)}; popf; int $0xff")
    assert event is not None
    assert event.eflags == after


def test_pushf_hides_rf_and_vm(cpu: Processor) -> None:
    cpu.v.eflags |= 0x10000 | AC
    cpu.run("pushf; pop %eax; hlt")
    assert cpu.v.r[0] == AC | 2


def test_pusha_and_popa(cpu: Processor) -> None:
    for index in (0, 1, 2, 3, 5, 6, 7):
        cpu.v.r[index] = 0x1000 + index
    sp = cpu.v.r[4]
    cpu.run("pusha; xor %eax, %eax; xor %edi, %edi; movl $-1, 12(%esp); popa; hlt")
    assert list(cpu.v.r)[:8] == [0x1000, 0x1001, 0x1002, 0x1003, sp, 0x1005, 0x1006, 0x1007]
    assert cpu.words(sp - 32, 8) == [0x1007, 0x1006, 0x1005, 0xFFFFFFFF, 0x1003, 0x1002, 0x1001, 0x1000]


def test_enter_with_display(cpu: Processor) -> None:
    sp = cpu.v.r[4]
    cpu.v.r[5] = SCRATCH
    cpu.write(SCRATCH - 8, (0x2222).to_bytes(4, "little") + (0x1111).to_bytes(4, "little"))
    cpu.run("enter $0x20, $3; hlt")
    assert cpu.words(sp - 16, 4) == [sp - 4, 0x2222, 0x1111, SCRATCH]
    assert (cpu.v.r[5], cpu.v.r[4]) == (sp - 4, sp - 16 - 0x20)


def test_enter_checks_its_final_stack_pointer(cpu: Processor) -> None:
    cpu.hidden("ss", DATA_SEL[0], 0, STACK_TOPS[0] - 1, 0xC093 & ~0x8000)
    cpu.v.r[4] = 0x100
    cpu.set_gate(12, gate(TSS2_SEL, 0, 0x85))
    for offset, value in ((0x20, SCRATCH), (0x24, 2), (0x38, 0x7F000), (0x4C, CODE_SEL[0]), (0x50, DATA_SEL[0])):
        cpu.write32(0x5000 + offset, value)
    cpu.write(SCRATCH, b"\xf4")
    cpu.run("enter $0x200, $0")
    assert cpu.v.eip == SCRATCH + 1
    assert (cpu.read32(0x4000 + 0x20), cpu.read32(0x4000 + 0x38)) == (CODE, 0x100)


def test_bound(cpu: Processor) -> None:
    cpu.write(SCRATCH, (-2 & 0xFFFFFFFF).to_bytes(4, "little") + (5).to_bytes(4, "little"))
    assert outcome(cpu, f"mov $-2, %eax; bound %eax, {SCRATCH:#x}; mov $5, %eax; bound %eax, {SCRATCH:#x}; hlt") is None
    cpu = Processor()
    cpu.write(SCRATCH, bytes(8))
    assert outcome(cpu, f"mov $-1, %eax; bound %eax, {SCRATCH:#x}") == (BR, None)


# ---- CPUID and MSRs ----------------------------------------------------------------------------------------------


def cpuid(leaf: int, features: str = "") -> tuple[int, int, int, int]:
    cpu = Processor(features)
    cpu.run(f"mov ${leaf}, %eax; xor %ecx, %ecx; cpuid; hlt")
    return cpu.v.r[0], cpu.v.r[3], cpu.v.r[1], cpu.v.r[2]


def test_cpuid() -> None:
    assert cpuid(0) == (2, 0x756E6547, 0x6C65746E, 0x49656E69)
    eax, ebx, ecx, edx = cpuid(1)
    assert (eax, ebx >> 24, ecx) == (0x683, 0, 0)
    assert edx == 0x0783FBFF
    assert cpuid(0x80000001)[3] == 1 << 20
    assert cpuid(7) == cpuid(0x12345678) == cpuid(0x80000005) == cpuid(2)


def test_a_hidden_feature_still_works() -> None:
    assert cpuid(1, "-sse2,-apic")[3] == 0x0783FBFF & ~(1 << 26 | 1 << 9)
    cpu = Processor("-cx8")
    assert cpu.run("mov $0x60000, %esi; cmpxchg8b (%esi); hlt") is None


@pytest.mark.parametrize(
    ("msr", "value", "kept"),
    [
        (0x174, 0xFFFF, 0xFFFF),
        (0x176, 0x12345678, 0x12345678),
        (0x200, 0xFE0000006, 0xFE0000006),
        (0x200, 0x1000000006, None),            # beyond 36 bits
        (0x200, 0x00000002, None),              # no such memory type
        (0x201, 0xFE0000800, 0xFE0000800),
        (0x201, 0xFE0000400, None),
        (0x250, 0x0606060606060606, 0x0606060606060606),
        (0x26F, 0x0605040100060606, 0x0605040100060606),
        (0x26F, 0x0705040100060606, None),      # UC- is the PAT's alone
        (0x277, 0x0007010600070106, 0x0007010600070106),
        (0x277, 0x0207010600070106, None),
        (0x2FF, 0xC06, 0xC06),
        (0x2FF, 0x1C06, None),
        (0x1B, 0xFEE00900, 0xFEE00900),
        (0x1B, 0xFEE00901, None),
        (0xC0000080, 0x800, 0x800),
        (0xC0000080, 0x400, None),
        (0x79, 0, None),
        (0x8B, 0, 0),
        (0x401, 0, 0),
        (0x401, 1, None),
        (0x179, 5, None),
        (0xFE, 0x508, None),
    ],
)
def test_msrs(cpu: Processor, msr: int, value: int, kept: int | None) -> None:
    read = "rdmsr; hlt"
    event = cpu.run(f"mov ${msr}, %ecx; mov ${value & 0xFFFFFFFF}, %eax; mov ${value >> 32}, %edx; wrmsr; {read}")
    if kept is None:
        assert event is not None and (event.vector, event.error) == (GP, 0)
    else:
        assert event is None
        assert cpu.v.r[2] << 32 | cpu.v.r[0] == kept


def test_the_tsc_can_be_set_and_tsd_guards_it(cpu: Processor) -> None:
    cpu.run("mov $0x10, %ecx; xor %eax, %eax; mov $0x1000, %edx; wrmsr; rdtsc; hlt")
    assert cpu.v.r[2] == 0x1000
    cpu.v.cr4 |= 4
    cpu.ring(3)
    assert outcome(cpu, "rdtsc") == (GP, 0)


def test_the_sti_shadow_and_hlt(cpu: Processor) -> None:
    assert cpu.run("sti; hlt") is None
    assert cpu.last is not None and cpu.last.interruptible
