"""Decoded code is what memory holds now: codecache.c, decode.c, and the marks that mem.c keeps.

Each test runs code once so that it is decoded, changes it or what maps it, and runs it again; the oracle is the
architecture: a processor of this kind sees its own stores at the next instruction.
"""

import mmap

import pytest

from tests.vmm.core.bus_processor import PAGE, PLAIN, TABLES, BusProcessor
from tests.vmm.core.processor import CODE, CODE32, FREE, SCRATCH, STACK_TOPS, assemble, descriptor
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


@pytest.mark.parametrize("apart", [1, 64, 512])
def test_stores_are_seen_in_one_of_two_pages_that_were_both_written(cpu: BusProcessor, apart: int) -> None:
    """That one needs no one's attention any more, for what is noted of pages together, says nothing of the other."""
    other = A + apart * PAGE
    cpu.write(A, returns(1))
    cpu.write(other, returns(1))
    cpu.run(
        f"mov ${A:#x}, %ebx; mov ${other:#x}, %ebp; movb $2, 16(%ebx); movb $2, 16(%ebp); call *%ebx;"
        "movb $2, 17(%ebp); call *%ebp; movb $7, 1(%ebp); movb $5, 1(%ebx); call *%ebp; mov %eax, %edx; call *%ebx; hlt"
    )
    assert (cpu.v.r[2], cpu.v.r[0]) == (7, 5)


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


@pytest.mark.parametrize("jump", ["jmp . + 0x1000", "cmp %eax, %eax; je . + 0x1000"])
def test_a_frame_mapped_twice_leads_on_to_two_pages(cpu: BusProcessor, jump: str) -> None:
    """Its code is decoded once, but what follows it in linear memory is another page each time."""
    here, there = 0x600000, 0x610000
    cpu.write(A, assemble(jump, 32))
    for linear, frame in ((here, B), (there, B + PAGE)):
        cpu.map(linear, A | PLAIN)
        cpu.map(linear + PAGE, frame | PLAIN)
    cpu.write(B, b"\x90" * 0x40 + returns(1))
    cpu.write(B + PAGE, b"\x90" * 0x40 + returns(2))
    cpu.run(
        f"mov $8, %esi; xor %edi, %edi; 9: mov ${here:#x}, %ebx; call *%ebx; shl %edi; add %eax, %edi;"
        f"mov ${there:#x}, %ebx; call *%ebx; shl %edi; add %eax, %edi; dec %esi; jnz 9b; hlt"
    )
    assert cpu.v.r[7] == 0x5555 + 0xFFFF    # 1 2 1 2 ... as digits of weight 2


GLOBAL = 0x100
RELOAD = "mov %cr3, %ecx; mov %ecx, %cr3"
TOGGLE = "mov %cr4, %ecx; xor $0x80, %cl; mov %ecx, %cr4; xor $0x80, %cl; mov %ecx, %cr4"


def test_links_between_global_pages_outlive_a_load_of_cr3(cpu: BusProcessor) -> None:
    cpu.v.cr4 |= 0x80
    for page in (A, CODE & -PAGE):
        cpu.map(page, page | PLAIN | GLOBAL)
    cpu.write(A, returns(1))

    def lookups(turns: int) -> int:
        before = cpu.vcpu.stats.block_lookups
        cpu.v.eip, cpu.v.r[4] = CODE, STACK_TOPS[0]
        cpu.run(f"mov ${turns}, %esi; 9: {RELOAD}; call {A:#x}; dec %esi; jnz 9b; hlt")
        return int(cpu.vcpu.stats.block_lookups - before)

    lookups(10)
    assert lookups(1000) < 100


@pytest.mark.parametrize("global_code", [GLOBAL, 0])
@pytest.mark.parametrize("far", [1, 4096, 8192])
def test_invlpg_of_a_page_without_code_leaves_links_alone(cpu: BusProcessor, global_code: int, far: int) -> None:
    """Nor is one mistaken for a page of code that lies far away."""
    cpu.v.cr4 |= 0x80
    for page in (A, CODE & -PAGE):
        cpu.map(page, page | PLAIN | global_code)
    cpu.write(A, returns(1))
    before = cpu.vcpu.stats.block_lookups
    cpu.run(f"mov $1000, %esi; 9: invlpg {A + far * PAGE:#x}; call {A:#x}; dec %esi; jnz 9b; hlt")
    assert cpu.vcpu.stats.block_lookups - before < 100


def test_invlpg_of_code_of_this_space_leaves_global_links_alone(cpu: BusProcessor) -> None:
    cpu.v.cr4 |= 0x80
    for page in (A, CODE & -PAGE):
        cpu.map(page, page | PLAIN | GLOBAL)
    cpu.write(A, returns(1))
    cpu.write(B, returns(2))

    def lookups(turns: int) -> int:
        before = cpu.vcpu.stats.block_lookups
        cpu.v.eip, cpu.v.r[4] = CODE, STACK_TOPS[0]
        cpu.run(f"mov ${turns}, %esi; 9: call {B:#x}; invlpg {B:#x}; call {A:#x}; dec %esi; jnz 9b; hlt")
        return int(cpu.vcpu.stats.block_lookups - before)

    lookups(10)
    assert lookups(1000) < 2500     # B anew each time, not the rest


@pytest.mark.parametrize("flush", [f"invlpg {A:#x}", TOGGLE])
def test_links_to_a_global_page_end_with_its_translation(cpu: BusProcessor, flush: str) -> None:
    cpu.v.cr4 |= 0x80
    cpu.map(A, A | PLAIN | GLOBAL)
    entry = TABLES + 4 * (A // PAGE)
    cpu.write(A, returns(1))
    cpu.write(B, returns(2))
    cpu.run(
        f"mov $6, %esi; xor %edi, %edi; 9: call {A:#x}; {RELOAD}; shl %edi; add %eax, %edi;"
        f"xorl ${A ^ B:#x}, {entry:#x}; {flush}; dec %esi; jnz 9b; hlt"
    )
    assert cpu.v.r[7] == 0b010101 + 63


def test_a_page_that_is_global_in_one_space_alone_is_not_the_others(cpu: BusProcessor) -> None:
    """After a load of CR3 what was not global is looked up anew, though its neighbour's links hold."""
    directory2, table2 = 0x74000, 0x75000
    cpu.v.cr4 |= 0x80
    cpu.map(CODE & -PAGE, (CODE & -PAGE) | PLAIN | GLOBAL)
    cpu.write(table2, cpu.memory.read(TABLES, PAGE))
    cpu.write32(table2 + 4 * (A // PAGE), B | PLAIN)
    cpu.write32(directory2, table2 | PLAIN)
    cpu.write(A, returns(1))
    cpu.write(B, returns(3))
    cpu.run(
        f"mov $100, %esi; xor %edi, %edi; mov $0x70000, %edx; 1: mov %edx, %cr3; call {A:#x}; add %eax, %edi;"
        f"xor $0x4000, %edx; dec %esi; jnz 1b; hlt"
    )
    assert cpu.v.r[7] == 50 + 150


@pytest.mark.parametrize("overlap", [0, 4, -4, 2, 40])
@pytest.mark.parametrize("at", [0, PAGE - 4, PAGE - 8])
def test_eight_bytes_by_way_of_two_registers(cpu: BusProcessor, overlap: int, at: int) -> None:
    """Both loads come before both stores, wherever they lie."""
    source, target = SCRATCH + at, SCRATCH + at + overlap
    data = bytes(range(1, 9))
    for _ in range(2):
        cpu.write(SCRATCH, bytes(2 * PAGE))
        cpu.write(source, data)
        cpu.v.eip = CODE
        cpu.run(
            f"mov ${source - 16:#x}, %esi; mov ${target - 20:#x}, %edi; mov 16(%esi), %eax; mov 20(%esi), %edx;"
            "mov %eax, 20(%edi); mov %edx, 24(%edi); hlt"
        )
        assert cpu.memory.read(target, 8) == data
        assert (cpu.v.r[0], cpu.v.r[2]) == (0x04030201, 0x08070605)


def test_the_second_of_two_stores_faults_alone(cpu: BusProcessor) -> None:
    target = 0x600000 + PAGE - 4
    cpu.map(0x600000, B | PLAIN)
    cpu.map(0x600000 + PAGE, 0)
    event = cpu.run(
        f"mov ${SCRATCH:#x}, %esi; movl $7, (%esi); movl $9, 4(%esi); mov ${target:#x}, %edi; mov (%esi), %eax;"
        "mov 4(%esi), %edx; mov %eax, (%edi); mov %edx, 4(%edi); hlt"
    )
    assert event is not None and (event.vector, cpu.v.cr2) == (14, target + 4)
    assert (cpu.read32(B + PAGE - 4), cpu.v.r[0], cpu.v.r[2]) == (7, 7, 9)


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
