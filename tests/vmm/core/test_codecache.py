"""Decoded code is what memory holds now: codecache.c, decode.c, and the marks that mem.c keeps.

Each test runs code once so that it is decoded, changes it or what maps it, and runs it again; the oracle is the
architecture: a processor of this kind sees its own stores at the next instruction.
"""

import mmap

import pytest

from tests.vmm.core.bus_processor import PAGE, PLAIN, TABLES, BusProcessor
from tests.vmm.core.processor import CODE, CODE32, FREE, SCRATCH, STACK_TOPS, descriptor
from vmm._core import lib
from vmm.engines import interp

A, B = 0x80000, 0x84000         # pages that tests put routines in


@pytest.fixture
def cpu() -> BusProcessor:
    return BusProcessor()


def returns(value: int) -> bytes:
    """A routine: mov $value, %eax; ret."""
    return b"\xb8" + value.to_bytes(4, "little") + b"\xc3"


@pytest.mark.parametrize(
    ("store", "name"),
    [
        ("movb $2, 1f + 1; 1: mov $1, %al", "the next instruction"),
        ("movb $2, 1f + 1; nop; nop; add $0, %ecx; 1: mov $1, %al", "later in the block"),
        ("movb $2, 1f + 1; jmp 2f; 2: 1: mov $1, %al", "the next block"),
        ("mov $2, %al; mov $1f + 1, %edi; stosb; 1: mov $1, %al", "by STOS"),
        ("mov $1f + 1, %edi; mov $9f, %esi; mov $1, %ecx; rep; movsb; 1: mov $1, %al", "by REP MOVS"),
        ("mov $2, %al; xchg %al, 1f + 1; 1: mov $1, %al", "by XCHG"),
        ("lock; incb 1f + 1; 1: mov $1, %al", "by a locked update"),
        ("incb 1f + 1; 1: mov $1, %al", "by an update"),
        ("mov %esp, %ebp; lea 1f + 5, %esp; push $0x02b00202; mov %ebp, %esp; jmp 1f; .p2align 2; nop; nop; nop; 1: "
         "nop; mov $1, %al; nop", "by PUSH"),
    ],
)  # fmt: skip
def test_a_store_into_the_running_code_is_executed(cpu: BusProcessor, store: str, name: str) -> None:
    if name == "by PUSH":
        store = (
            "mov %esp, %ebp; lea 1f + 4, %esp; push $0x9002b090; mov %ebp, %esp; jmp 1f; 1: nop; mov $1, %al; nop"
        )
    for _ in range(2):
        cpu.v.eip, cpu.v.r[4] = CODE, STACK_TOPS[0]
        cpu.run(f"{store}; hlt; 9: .byte 2")
        assert cpu.v.r[0] & 0xFF == 2, name


def test_code_changed_after_it_was_linked_and_looped(cpu: BusProcessor) -> None:
    """The body of a loop is changed by the loop, hot links and all."""
    cpu.run(
        "xor %ebx, %ebx; mov $1000, %ecx; 1: 2: mov $1, %eax; add %eax, %ebx; cmp $500, %ecx; jne 3f; movb $2, 2b + 1;"
        "3: dec %ecx; jnz 1b; hlt"
    )
    assert cpu.v.r[3] == 501 + 2 * 499


def test_a_fused_pair_is_changed_in_either_half(cpu: BusProcessor) -> None:
    cpu.run("mov $5, %ecx; movb $5, 1f + 2; 1: cmp $4, %ecx; je 2f; hlt; 2: mov $0x77, %al; hlt")
    assert cpu.v.r[0] & 0xFF == 0x77
    cpu = BusProcessor()
    cpu.run("mov $5, %ecx; movb $0x74, 1f; cmp $5, %ecx; 1: jne 2f; hlt; 2: mov $0x77, %al; hlt")
    assert cpu.v.r[0] & 0xFF == 0x77


def test_a_store_through_an_alias_is_seen(cpu: BusProcessor) -> None:
    cpu.write(A, returns(1))
    cpu.map(0x600000, A | PLAIN)
    cpu.run(f"mov ${A:#x}, %ebx; call *%ebx; mov %eax, %edx; movb $2, 0x600001; call *%ebx; hlt")
    assert (cpu.v.r[2], cpu.v.r[0]) == (1, 2)


@pytest.mark.parametrize("half", [-1, 1])
def test_an_instruction_over_the_edge_is_changed_in_either_page(cpu: BusProcessor, half: int) -> None:
    edge = A + PAGE
    cpu.write(edge - 2, returns(0x01010101))
    cpu.run(f"mov ${edge - 2:#x}, %ebx; call *%ebx; mov %eax, %edx; movb $2, {edge + half:#x}; call *%ebx; hlt")
    assert cpu.v.r[2] == 0x01010101
    assert cpu.v.r[0] == (0x01010102 if half < 0 else 0x01020101)


def test_the_second_page_of_an_instruction_is_mapped_anew(cpu: BusProcessor) -> None:
    edge, entry = A + PAGE, TABLES + 4 * (A // PAGE + 1)
    cpu.write(edge - 2, returns(0x01010101))
    cpu.write(B, b"\x55\x66\x77\xc3")
    cpu.run(
        f"mov ${edge - 2:#x}, %ebx; call *%ebx; mov %eax, %edx; movl ${B | PLAIN:#x}, {entry:#x}; invlpg {edge:#x};"
        "call *%ebx; hlt"
    )
    assert (cpu.v.r[2], cpu.v.r[0]) == (0x01010101, 0x77665501)


@pytest.mark.parametrize("flush", ["invlpg 0x80000", "mov %cr3, %ecx; mov %ecx, %cr3"])
@pytest.mark.parametrize("jump", ["call *%ebx", "call 0x80000", "call *0x60000", "push $1f; jmp 0x80000; 1:",
                                  "push $1f; push %ebx; ret; 1:",
                                  "cmp %eax, %eax; push $1f; je 0x80000; 1:"])  # fmt: skip
def test_links_and_hints_end_with_the_translation(cpu: BusProcessor, jump: str, flush: str) -> None:
    entry = TABLES + 4 * (A // PAGE)
    cpu.write(A, returns(1))
    cpu.write(B, returns(2))
    cpu.write32(SCRATCH, A)
    cpu.run(
        f"mov ${A:#x}, %ebx; mov $6, %esi; xor %edi, %edi; 9: {jump.replace('1f', '2f').replace('1:', '2:')}; shl %edi;"
        f"add %eax, %edi; xorl ${A ^ B:#x}, {entry:#x}; {flush}; dec %esi; jnz 9b; hlt"
    )
    assert cpu.v.r[7] == 0b010101 + 63      # 1 2 1 2 1 2 as digits of weight 2


def test_two_address_spaces_in_turn(cpu: BusProcessor) -> None:
    """One linear address, two meanings, and jump hints for both."""
    directory2, table2 = 0x74000, 0x75000
    cpu.write(table2, cpu.memory.read(TABLES, PAGE))
    cpu.write32(table2 + 4 * (A // PAGE), B | PLAIN)
    cpu.write32(directory2, table2 | PLAIN)
    cpu.write(A, returns(1))
    cpu.write(B, returns(3))
    cpu.run(
        f"mov ${A:#x}, %ebx; mov $100, %esi; xor %edi, %edi; mov $0x70000, %edx; 1: mov %edx, %cr3; call *%ebx;"
        f"add %eax, %edi; call {A:#x}; add %eax, %edi; xor $0x4000, %edx; dec %esi; jnz 1b; hlt"
    )
    assert cpu.v.r[7] == 100 + 300


def test_user_code_does_not_run_by_a_supervisors_link(cpu: BusProcessor) -> None:
    """A routine in a supervisor's page, called by both rings at one address."""
    cpu.write(A, returns(1))
    cpu.map(A, A | 3)
    cpu.run(f"call {A:#x}; hlt")
    cpu.user()
    event = cpu.run(f"call {A:#x}; hlt")
    assert event is not None and (event.vector, event.error, cpu.v.cr2) == (14, 5, A)


@pytest.mark.parametrize("by", ["write", "dma"])
def test_what_a_device_stores_is_executed(cpu: BusProcessor, by: str) -> None:
    cpu.write(A, returns(1))
    cpu.run(f"call {A:#x}; hlt; call {A:#x}; hlt")
    assert cpu.v.r[0] == 1
    if by == "write":
        cpu.write(A + 1, b"\x02")
    else:
        with cpu.memory.dma(A + 1, 1, write=True) as views:
            views[0][0] = 2
    cpu.resume()
    assert cpu.v.r[0] == 2


def test_stores_beside_code_drop_nothing(cpu: BusProcessor) -> None:
    """Data in another 64-byte line of a page of code."""
    cpu.run(f"mov $1000, %ecx; 1: incl {CODE + 0x800:#x}; loop 1b; hlt")
    stats = cpu.vcpu.stats
    assert cpu.read32(CODE + 0x800) == 1000
    assert (int(stats.code_writes), int(stats.blocks_decoded) < 10) == (0, True)


def test_stores_into_lines_of_code_drop_it_once_each(cpu: BusProcessor) -> None:
    cpu.write(A, returns(1))
    cpu.run(f"mov $50, %esi; 1: call {A:#x}; incb {A + 1:#x}; dec %esi; jnz 1b; hlt")
    assert cpu.v.r[0] == 50
    assert 50 <= int(cpu.vcpu.stats.code_writes) <= 52


def test_code_in_rom_runs_and_stays(cpu: BusProcessor) -> None:
    cpu.write(A, returns(7))
    cpu.memory.map_shadow_rom(A // PAGE, 1)
    cpu.run(f"call {A:#x}; movb $9, {A + 1:#x}; call {A:#x}; hlt")
    assert cpu.v.r[0] == 7


def test_code_where_nothing_answers_is_ones(cpu: BusProcessor) -> None:
    event = cpu.run("mov $0x600000, %eax; jmp *%eax")
    assert event is not None and (event.vector, event.eip) == (6, 0x600000)


def test_a_changed_slot_changes_the_code(cpu: BusProcessor) -> None:
    """As PAM switches a range from RAM to other memory and back."""
    cpu.write(A, returns(1))
    cpu.run(f"call {A:#x}; hlt; call {A:#x}; hlt; call {A:#x}; hlt")
    hidden = cpu.memory.allocate_dev(1)
    cpu.memory.dev_view(hidden, 1)[:6] = returns(2)
    cpu.memory.map_hidden(A // PAGE, 1, hidden)
    first = cpu.v.r[0]
    cpu.resume()
    second = cpu.v.r[0]
    cpu.memory.map_ram(A // PAGE, 1)
    cpu.resume()
    assert (first, second, cpu.v.r[0]) == (1, 2, 1)


def test_a_full_cache_is_dropped_and_code_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest arena, and more different blocks than it holds, twice; each adds its own number."""
    monkeypatch.setattr(interp, "ARENA_BYTES", int(lib.RF_ARENA_MIN))
    assert mmap.PAGESIZE == PAGE
    cpu = BusProcessor()
    blocks, base = 150_000, 0x100000
    jecxz_next = b"\xe3\x00"  # ends its block, wherever it goes
    code = b"".join(b"\x81\xc0" + (n & 0xFFFF).to_bytes(4, "little") + jecxz_next for n in range(blocks))
    cpu.write(base, code + b"\xc3")
    cpu.run(f"mov $2, %esi; 1: xor %eax, %eax; call {base:#x}; mov %eax, %edi; dec %esi; jnz 1b; hlt")
    expected = sum(n & 0xFFFF for n in range(blocks)) & 0xFFFFFFFF
    assert (cpu.v.r[0], cpu.v.r[7]) == (expected, expected)
    assert int(cpu.vcpu.stats.blocks_decoded) > blocks


def test_sixteen_bit_and_thirty_two_bit_code_share_bytes(cpu: BusProcessor) -> None:
    """B8 takes two bytes or four: the same bytes decoded in both modes."""
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32, 0x8000))
    cpu.write(A, b"\xb8\x01\x00\xf4\xf4\xf4")        # 32: mov $0xf4f40001, %eax; hlt   16: mov $1, %ax; hlt
    for selector, value in [(8, 0xF4F40001), (FREE, 1), (8, 0xF4F40001), (FREE, 1)]:
        cpu.ring(0)
        cpu.v.r[0] = 0
        cpu.run(f"ljmp ${selector}, ${A:#x}")
        assert cpu.v.r[0] == value
