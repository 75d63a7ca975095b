"""Memory operands wherever they lie: over a page's edge, in a device, in ROM, in page tables, in code: mem.c.

The oracle for a device is RAM: an instruction does to memory behind a device what it does to RAM, asks for each byte
once, and applies its flags once.
"""

import pytest

from tests.vmm.core.bus_processor import (
    DEVICE,
    DIRTY,
    EMPTY,
    PAGE,
    PLAIN,
    PRESENT,
    TABLES,
    USER,
    BusProcessor,
)
from tests.vmm.core.processor import CODE, SCRATCH

PF = 14
NEAR = 0x80000          # two pages of data
EDGE = NEAR + PAGE - 2
REGISTERS = [0x11223344, 5, 0x55667788, 0, 0, 0x8877AABB, SCRATCH, 0]
OLD = bytes.fromhex("f0debc9a78563412ffeeddccbbaa9988")

# Operand at (%ebx); %edi is the same address.
LOADS = {
    "mov": "mov (%ebx), %eax",
    "movw": "movw 1(%ebx), %ax",
    "movzx": "movzwl 1(%ebx), %eax",
    "cmp": "cmp (%ebx), %eax",
    "cmp-jcc": "cmp %eax, (%ebx); ja 1f; nop; 1:",
    "test": "test %eax, (%ebx)",
    "adc": "stc; adc (%ebx), %eax",
    "imul": "imul (%ebx), %eax",
    "imul3": "imul $3, (%ebx), %eax",
    "mul": "mull (%ebx)",
    "push": "push (%ebx)",
    "cmov": "cmovb (%ebx), %eax",
    "lods": "mov %ebx, %esi; lodsl",
    "scas": "scasl",
    "cmps": "cmpsl",
    "movs-from": "mov %ebx, %esi; mov $0x61000, %edi; movsl",
    "bt": "bt $5, (%ebx)",
    "bsf": "bsf (%ebx), %eax",
    "fild": "fninit; fildl (%ebx); fistpl 0x61000",
    "movq": "movq (%ebx), %mm0; movq %mm0, 0x61000",
    "movups": "movups (%ebx), %xmm0; movups %xmm0, 0x61000",
    "xlat": "mov $2, %al; xlat",
}
STORES = {
    "mov": "mov %eax, (%ebx)",
    "movi": "movl $0x01020304, (%ebx)",
    "movw": "movw %ax, 1(%ebx)",
    "pop": "push %eax; pop (%ebx)",
    "stos": "stosl",
    "movs": "movsl",
    "enter": "lea 4(%ebx), %esp; push %ebp; mov %edx, %esp",
    "fst": "fninit; fldpi; fstpl (%ebx)",
    "fstt": "fninit; fldpi; fstpt (%ebx)",
    "fnsave": "fninit; fldpi; fnsave (%ebx)",
    "movq": "movq 0x60000, %mm0; movq %mm0, (%ebx)",
    "movups": "movups 0x60000, %xmm0; movups %xmm0, (%ebx)",
    "sgdt": "sgdt (%ebx)",
    "pusha": "lea 4(%ebx), %esp; pusha; mov %edx, %esp",
}
UPDATES = {
    "add": "add %eax, (%ebx)",
    "adc": "stc; adc %eax, (%ebx)",
    "adci": "stc; adcl $-1, (%ebx)",
    "sbbw": "stc; sbbw %ax, 1(%ebx)",
    "inc": "stc; incl (%ebx)",
    "dec": "decl (%ebx)",
    "not": "notl (%ebx)",
    "neg": "negl (%ebx)",
    "xchg": "xchg %eax, (%ebx)",
    "lock-add": "lock; add %eax, (%ebx)",
    "lock-adc": "stc; lock; adc %eax, (%ebx)",
    "lock-neg": "lock; negl (%ebx)",
    "cmpxchg": "cmpxchg %ecx, (%ebx)",
    "cmpxchg=": "mov (%ebx), %eax; cmpxchg %ecx, (%ebx)",
    "cmpxchg8b": "push %ebx; mov %ebx, %edi; mov $1, %ebx; cmpxchg8b (%edi); pop %ebx",
    "cmpxchg8b=": "mov (%ebx), %eax; mov 4(%ebx), %edx; mov %ebx, %edi; cmpxchg8b (%edi)",
    "xadd": "xadd %eax, (%ebx)",
    "lock-xadd": "lock; xadd %eax, (%ebx)",
    "shl": "shll $3, (%ebx)",
    "rcl": "stc; rcll $1, (%ebx)",
    "sar-cl": "sarl %cl, (%ebx)",
    "shld": "shldl $4, %eax, (%ebx)",
    "shrd": "shrdl %cl, %eax, (%ebx)",
    "bts": "btsl $9, (%ebx)",
    "lock-btr": "lock; btrl $4, (%ebx)",
    "btc": "btcl $31, (%ebx)",
}
KINDS = {"load": LOADS, "store": STORES, "update": UPDATES}
EVERY = [pytest.param(source, id=f"{kind}-{name}") for kind, table in KINDS.items() for name, source in table.items()]
WRITERS = [
    pytest.param(source, id=f"{kind}-{name}")
    for kind in ("store", "update") for name, source in KINDS[kind].items()
    if name not in {"cmpxchg8b", "cmpxchg=", "cmpxchg8b=", "pop", "enter", "pusha", "fst", "fstt", "fnsave"}
]  # fmt: skip


def set_up(source: str, address: int) -> BusProcessor:
    """The registers and the source; memory at the operand is the test's."""
    cpu = BusProcessor()
    cpu.v.cr4 |= 0x200
    for n, value in enumerate(REGISTERS):
        if n != 4:
            cpu.v.r[n] = value
    cpu.v.r[3] = cpu.v.r[7] = address
    cpu.write(SCRATCH, bytes(range(0xA0, 0xC0)))
    cpu.start(f"mov %esp, %edx; {source}; hlt")
    return cpu


def prepared(source: str, address: int) -> BusProcessor:
    cpu = set_up(source, address)
    cpu.store(address, OLD)
    return cpu


PLACES = {
    "device": (DEVICE + 0x100, None),
    "ram-device": (EDGE, DEVICE),
    "device-ram": (DEVICE + PAGE - 2, NEAR),
    "device-device": (DEVICE + PAGE - 3, None),
    "ram-device-3": (NEAR + PAGE - 3, DEVICE),
    "device-ram-1": (DEVICE + PAGE - 1, NEAR),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("source", EVERY)
def test_a_device_is_used_like_ram_and_each_byte_once(source: str, place: str) -> None:
    expected = prepared(source, EDGE)
    assert expected.resume() is None
    address, second = PLACES[place]
    cpu = set_up(source, address)
    edge = (address | PAGE - 1) + 1
    if second is not None:
        cpu.map(edge, second | PLAIN)

    def where(linear: int) -> int:
        return linear if second is None or linear < edge else linear - edge + second

    for at, byte in enumerate(OLD):
        cpu.store(where(address + at), bytes([byte]))
    assert cpu.resume() is None
    registers = tuple((r - address + EDGE) & 0xFFFFFFFF if abs(r - address) < PAGE else r for r in list(cpu.v.r)[:8])
    memory = b"".join(cpu.load(where(at), 1) for at in range(address, address + 124))
    memory = memory.replace(address.to_bytes(4, "little"), EDGE.to_bytes(4, "little"))
    assert (registers, cpu.v.eflags, cpu.memory.read(0x61000, 16), cpu.v.eip) == (
        tuple(list(expected.v.r)[:8]), expected.v.eflags, expected.memory.read(0x61000, 16), expected.v.eip
    )  # fmt: skip
    assert memory == expected.load(EDGE, 124)
    instructions_that_touch = source.count("(%ebx)") + source.count("(%edi)") + ("push" in source)
    for log in ([(a, w) for a, w, _ in cpu.log.writes], cpu.log.reads):
        touched = [a + n for a, w in log for n in range(w)]
        assert all(touched.count(byte) <= max(1, instructions_that_touch) for byte in set(touched))


@pytest.mark.parametrize(("second", "error"), [(0, 2), (NEAR + PAGE | PRESENT | USER, 3)], ids=["absent", "read-only"])
@pytest.mark.parametrize("source", WRITERS)
@pytest.mark.parametrize("ring", [0, 3])
def test_a_store_over_the_edge_writes_both_halves_or_none(source: str, second: int, error: int, ring: int) -> None:
    cpu = prepared(source, EDGE)
    if ring:
        sp = cpu.v.r[4]
        cpu.user()
        cpu.v.r[4] = sp
    cpu.map(NEAR + PAGE, second)
    before, flags, memory = list(cpu.v.r), cpu.v.eflags, cpu.load(EDGE, 16)
    event = cpu.resume()
    assert event is not None
    assert (event.vector, event.error, cpu.v.cr2) == (PF, error | (4 if ring else 0), NEAR + PAGE)
    carry = source.startswith("stc")
    assert event.eflags & ~0x10000 == flags | carry
    assert [r for n, r in enumerate(cpu.v.r) if n not in {2, 4}] == [r for n, r in enumerate(before) if n not in {2, 4}]
    assert cpu.load(EDGE, 16) == memory
    assert not cpu.entry(NEAR + PAGE) & DIRTY


@pytest.mark.parametrize("source", [pytest.param(s, id=n) for n, s in LOADS.items()])
def test_a_load_over_the_edge_of_nothing_changes_nothing(source: str) -> None:
    cpu = prepared(source, EDGE)
    cpu.map(NEAR + PAGE, 0)
    if "lodsl" in source or "movsl" in source or "xlat" in source:
        source = ""        # set-up instructions come first there
    before = list(cpu.v.r)
    event = cpu.resume()
    if event is None:
        return             # the operand did not reach the edge
    assert (event.vector, event.error, cpu.v.cr2) == (PF, 0, NEAR + PAGE)
    if source:
        assert [r for n, r in enumerate(cpu.v.r) if n not in {2, 4}] == [
            r for n, r in enumerate(before) if n not in {2, 4}
        ]


@pytest.mark.parametrize("write", [False, True])
def test_a_fault_in_the_second_half_comes_before_the_device_is_asked(write: bool) -> None:
    cpu = BusProcessor()
    cpu.map(DEVICE + PAGE, 0)
    cpu.v.r[3] = DEVICE + PAGE - 2
    event = cpu.run("mov %eax, (%ebx)" if write else "mov (%ebx), %eax")
    assert event is not None and (event.vector, cpu.v.cr2) == (PF, DEVICE + PAGE)
    assert (cpu.log.reads, cpu.log.writes) == ([], [])


@pytest.mark.parametrize(
    ("source", "width", "data"),
    [
        ("movb %al, (%ebx)", 1, 0x44),
        ("movw %ax, (%ebx)", 2, 0x3344),
        ("mov %eax, (%ebx)", 4, 0x11223344),
        ("stosb", 1, 0x44),
        ("stosw", 2, 0x3344),
        ("movb $-1, (%ebx)", 1, 0xFF),
        ("movw $-2, (%ebx)", 2, 0xFFFE),
        ("lea 2(%ebx), %esp; pushw $-3; mov $0x1f000, %esp", 2, 0xFFFD),
        ("movq 0x60000, %mm0; movq %mm0, (%ebx)", 8, 0xA7A6A5A4A3A2A1A0),
        ("mov %ds, (%ebx)", 2, 0x10),
        ("setz (%ebx)", 1, 0),
    ],
)
def test_a_device_sees_the_operands_width_and_no_more_bits(source: str, width: int, data: int) -> None:
    cpu = prepared(source, DEVICE + 0x40)
    cpu.resume()
    assert cpu.log.writes == [(DEVICE + 0x40, width, data)]


@pytest.mark.parametrize(
    ("load", "width"), [("movzbl (%ebx), %eax", 1), ("movzwl (%ebx), %eax", 2), ("mov (%ebx), %eax", 4)]
)
def test_a_device_is_read_in_the_operands_width(load: str, width: int) -> None:
    cpu = prepared(load, DEVICE + 0x40)
    cpu.resume()
    assert cpu.log.reads == [(DEVICE + 0x40, width)]
    assert cpu.v.r[0] == int.from_bytes(OLD[:width], "little")


def test_where_nothing_answers_reads_are_ones_and_writes_are_lost() -> None:
    cpu = BusProcessor()
    cpu.v.r[3] = EMPTY
    cpu.run("movl $0, (%ebx); mov (%ebx), %eax; movzwl (%ebx), %ecx; incl (%ebx); pushf; pop %edx; hlt")
    assert (cpu.v.r[0], cpu.v.r[1], cpu.v.r[2] & 0x40) == (0xFFFFFFFF, 0xFFFF, 0x40)
    assert cpu.log.reads == []


@pytest.mark.parametrize("source", [pytest.param(s, id=n) for n, s in UPDATES.items() if "push" not in s])
def test_rom_is_read_and_never_changes(source: str) -> None:
    expected = prepared(source, NEAR + 0x10)
    expected.resume()
    cpu = prepared(source, NEAR + 0x10)
    cpu.memory.map_shadow_rom(NEAR // PAGE, 1)
    cpu.resume()
    assert (list(cpu.v.r), cpu.v.eflags) == (list(expected.v.r), expected.v.eflags)
    assert cpu.load(NEAR + 0x10, 16) == OLD


def test_a_store_half_in_rom_keeps_the_other_half() -> None:
    cpu = prepared("mov %eax, (%ebx)", EDGE)
    cpu.memory.map_shadow_rom(NEAR // PAGE + 1, 1)
    cpu.resume()
    assert cpu.load(EDGE, 4) == bytes.fromhex("4433") + OLD[2:4]


@pytest.mark.parametrize("source", ["mov %eax, (%ebx)", "xchg %eax, (%ebx)", "mov %ebx, %edi; stosl",
                                    "lock; cmpxchg %eax, (%ebx)", "push %eax"])  # fmt: skip
def test_a_store_to_a_page_table_is_seen_after_invlpg(source: str) -> None:
    """The entry was used before, so the table is traced by then; twice, for the trace is set anew."""
    cpu = BusProcessor()
    window, entry = 0x90000, TABLES + 4 * (0x90000 // PAGE)
    for n in range(3):
        cpu.write32(0x91000 + n * PAGE, 0x100 + n)
    store = "lea 4(%ebx), %esp; push %eax; mov %ebp, %esp" if source == "push %eax" else source
    parts = []
    for n in range(3):
        new = 0x91000 + n * PAGE | PLAIN
        compare = f"mov (%ebx), %eax; mov ${new}, %edi; lock; cmpxchg %edi, (%ebx);"
        body = compare if "cmpxchg" in source else f"mov ${new}, %eax; {store};"
        parts.append(f"mov ${entry:#x}, %ebx; mov %esp, %ebp; {body} invlpg {window:#x}; add {window:#x}, %edx;")
    cpu.run(f"xor %edx, %edx; mov {window:#x}, %eax; {' '.join(parts)} hlt")
    assert cpu.v.r[2] == 0x100 + 0x101 + 0x102


def test_a_crossing_store_into_code_is_seen() -> None:
    """The second half of a store changes the instruction that follows in the next page."""
    cpu = BusProcessor()
    cpu.write(NEAR + PAGE, b"\xb0\x01\xf4")         # mov $1, %al; hlt
    cpu.v.r[0] = 0x5AB00000
    cpu.run(f"call 1f; mov $0x5ab00000, %eax; mov %eax, {NEAR + PAGE - 2:#x}; jmp {NEAR + PAGE:#x}; 1: ret")
    assert cpu.v.r[0] & 0xFF == 0x5A


def test_push_and_call_leave_esp_when_the_stack_is_absent() -> None:
    for source in ("push %eax", "pusha", "pushf", "call .", "push (%ebx)", "enter $8, $0", "push %ds", "enter $8, $3"):
        cpu = BusProcessor()
        cpu.map(0x90000, 0)
        cpu.user()
        cpu.v.r[4], cpu.v.r[5], cpu.v.r[3] = 0x91000, 0x92000, SCRATCH
        event = cpu.run(source)
        assert event is not None and (event.vector, event.error) == (PF, 6), source
        assert cpu.read32(cpu.v.r[4] + 16) == 0x91000 and cpu.v.r[5] == 0x92000, source
        assert cpu.v.cr2 & ~0xFFF == 0x90000


def test_an_aligned_access_in_ring_3_passes_and_others_are_ac() -> None:
    for source, vector in [
        ("mov 0x60001, %eax", 17), ("mov 0x60002, %ax", 255), ("mov 0x60001, %al", 255), ("mov %ax, 0x60001", 17),
        ("addl $1, 0x60002", 17), ("movq 0x60004, %mm0", 17), ("push 0x60000", 255), ("lock; incl 0x60001", 17),
    ]:  # fmt: skip
        cpu = BusProcessor()
        cpu.v.cr0 |= 1 << 18
        cpu.user()
        cpu.v.eflags |= 1 << 18
        event = cpu.run(source + "; int $255")
        assert event is not None and event.vector == vector, source
        if vector == 17:
            assert (event.error, event.eip) == (0, CODE)
        cpu = BusProcessor()
        cpu.v.cr0 |= 1 << 18
        cpu.v.eflags |= 1 << 18
        event = cpu.run(source + "; int $255")
        assert event is not None and event.vector == 255, source          # supervisors are not checked


def test_fxsave_and_task_sized_accesses_to_a_device_end() -> None:
    """Sixty-four accesses of one instruction."""
    cpu = BusProcessor()
    cpu.v.cr4 |= 0x200
    cpu.run(f"fninit; fldpi; fxsave {DEVICE:#x}; fninit; fxrstor {DEVICE:#x}; fxsave 0x61000; hlt")
    assert cpu.device[:160] == cpu.memory.read(0x61000, 160)
    assert len(cpu.log.writes) == len(set(cpu.log.writes))


def test_a_long_operand_in_one_page_is_looked_up_once() -> None:
    """And over an edge it is the same to the guest."""
    cpu = BusProcessor()
    cpu.v.cr4 |= 0x200
    whole, edge = 0x61000, NEAR + PAGE - 0x80
    cpu.run(f"fninit; fldpi; fxsave {whole:#x}; fxsave {edge:#x}; fxrstor {edge:#x}; fxsave 0x62000; hlt")
    assert cpu.memory.read(whole, 288) == cpu.load(edge, 288) == cpu.memory.read(0x62000, 288)
    before = int(cpu.control.page.stats.tlb_fills)
    cpu.v.eip = CODE
    cpu.run(f"fxsave {whole:#x}; fxrstor {whole:#x}; hlt")
    assert cpu.control.page.stats.tlb_fills - before < 288 // 8
