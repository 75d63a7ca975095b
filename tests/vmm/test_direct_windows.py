"""The user window: what of the guest's memory its outer rings see when they run directly.

A window is a TLB that the host's page tables implement, so the facts are those of a TLB: accessed and dirty bits,
what a flush does, who sees a supervisor's page. The judge is the interpreter.
"""

from __future__ import annotations

import platform
import threading

import pytest

from tests.vmm.outer_rings import (
    CR0_WP,
    CR4_PGE,
    CR4_PSE,
    DIRECTORY,
    FREE_FRAME,
    FULL,
    LOG_WORD,
    PS,
    USER_CODE,
    USER_DATA,
    USER_STACK,
    A,
    D,
    G,
    OuterRings,
    P,
    U,
    W,
    same,
)  # fmt: skip
from vmm.memory import PAGE_SIZE
from vmm.vcpu import ExitKind

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

DONE = "\nint $0x90\n"
WARM = "movl $50, %ecx\n9: loop 9b\n"
PAGE = PAGE_SIZE


def page(number: int) -> int:
    """The linear address of a page of data."""
    return USER_DATA + number * PAGE


# ---- accessed and dirty ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1, 3])
def test_a_and_d_are_set_where_the_guest_looks_and_writes(ring: int) -> None:
    touched = {
        0: "movl {}, %eax", 3: "movl %eax, {}", 4: "incl {}", 5: "movl {0}, %eax\nmovl %eax, {0}+8", 9: "cmpb $1, {}",
    }  # fmt: skip

    def prepare(p: OuterRings) -> None:
        p.outer(ring)
        for number in range(16):
            p.change(page(number), clear=A | D)
        p.change(page(12), add=A | D)
        p.code(WARM + "\n".join(text.format(page(n) + 16) for n, text in touched.items()) + DONE)

    p = same(prepare)
    bits = {number: p.pte(page(number)) & (A | D) for number in range(16)}
    assert bits == dict.fromkeys(range(16), 0) | {0: A, 3: A | D, 4: A | D, 5: A | D, 9: A, 12: A | D}
    assert p.vcpu.stats.direct_hidden > 0


def test_a_page_that_was_read_is_dirty_only_once_it_is_written() -> None:
    """The kernel looks at the bits, and takes them away again with a flush."""

    def prepare(p: OuterRings) -> None:
        pte = p.pte_address(page(0))
        p.change(page(0), clear=A | D)
        p.handler(0x91, LOG_WORD + f"""
            movl {pte:#x}, %eax; log_word %eax
            andl ${~(A | D) & 0xFFFFFFFF:#x}, {pte:#x}; invlpg {page(0):#x}; iret
        """)
        p.code(WARM + f"""
            movl {page(0)}, %eax; int $0x91
            movl %eax, {page(0)}; int $0x91
            movl {page(0)}, %eax; movl %eax, {page(0) + 4}; int $0x91
            int $0x91
            incl {page(0)}; int $0x91
        """ + DONE)

    p = same(prepare)
    assert [word & (A | D) for word in p.log()] == [A, A | D, A | D, 0, A | D]


def test_code_sets_a_and_never_d() -> None:
    def prepare(p: OuterRings) -> None:
        for number in (1, 2):
            p.change(USER_CODE + number * PAGE, clear=A | D)
        p.code(WARM + f"call {USER_CODE + PAGE:#x}" + DONE)
        p.code(WARM + "ret", USER_CODE + PAGE)

    p = same(prepare)
    assert [p.pte(USER_CODE + number * PAGE) & (A | D) for number in (1, 2)] == [A, 0]


def test_neighbours_that_are_mapped_along_have_been_accessed_before() -> None:
    """Pages in a row in guest memory, known to the shadow page table, some clean: only what is written gets dirty."""

    def prepare(p: OuterRings) -> None:
        for number in range(32):
            p.change(page(number), clear=D if number % 3 else A | D)
        p.code(WARM + f"""
            movl ${page(0)}, %esi; movl $32, %ecx
        1:  movl (%esi), %eax; addl ${PAGE}, %esi; loop 1b
            int $0x91
            movl %eax, {page(16)}; movl %eax, {page(31)}; movl %eax, {page(8)}
        """ + DONE)
        p.handler(0x91, "movl %cr3, %eax\nmovl %eax, %cr3\niret")

    p = same(prepare)
    assert [n for n in range(32) if p.pte(page(n)) & D] == [8, 16, 31]


def test_a_fault_in_the_middle_of_a_string_instruction_counts_what_was_done() -> None:
    def prepare(p: OuterRings) -> None:
        for number in range(8):
            p.change(page(number), clear=A | D)
        p.change(page(5), clear=P)
        p.code(WARM + f"""
            movl ${page(0) + 0xF00}, %esi; movl ${page(2) + 0x801}, %edi
            movl $0x1000, %ecx; rep movsl
        """ + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None and (event.vector, p.v.cr2) == (14, page(5))
    assert p.v.r[7] == page(5) - 3, "the doubleword before the fault ends within the page"


# ---- faults that the guest mends -------------------------------------------------------------------------------------


def test_a_page_that_the_kernel_brings_in_is_there_at_the_second_try() -> None:
    def prepare(p: OuterRings) -> None:
        for number in range(12):
            p.change(page(number), clear=P | A | D)
        table = p.pte_address(USER_DATA) - (USER_DATA >> 12 & 0x3FF) * 4
        p.handler(14, LOG_WORD + f"""
            pusha
            movl %cr2, %eax; log_word %eax
            movl 32(%esp), %eax; log_word %eax
            movl %cr2, %eax; shrl $12, %eax; andl $0x3ff, %eax; orl $1, {table:#x}(,%eax,4)
            popa; addl $4, %esp; iret
        """)
        p.code(WARM + f"""
            movl $12, %edi; movl ${page(0)}, %esi
        1:  incl (%esi); movl $100, %ecx
        2:  addl %ecx, 4(%esi); loop 2b
            addl ${PAGE}, %esi; decl %edi; jnz 1b
        """ + DONE)

    p = same(prepare)
    assert p.log() == [word for number in range(12) for word in (page(number), W | U)]
    assert p.stays[3] >= 12


def test_copy_on_write() -> None:
    """Two pages share a frame read-only; the first write to one gets a frame of its own."""

    def prepare(p: OuterRings) -> None:
        p.map(page(1), p.frame(page(0)), FULL & ~W)
        p.change(page(0), clear=W)
        entry = p.pte_address(page(1))
        p.handler(14, f"""
            pusha
            movl ${p.frame(page(0)):#x}, %esi; movl ${FREE_FRAME:#x}, %edi; movl $1024, %ecx; rep movsl
            movl ${FREE_FRAME | P | W | U:#x}, {entry:#x}; invlpg {page(1):#x}
            popa; addl $4, %esp; iret
        """)
        p.write(p.frame(page(0)), bytes(range(256)) * 16)
        p.code(WARM + f"""
            movl {page(0)}, %eax; movl {page(1)}, %ebx
            movl $0x55555555, {page(1)}
            movl {page(0)}, %edx; movl {page(1)}, %esi; movl {page(1) + 8}, %edi
        """ + DONE)

    p = same(prepare)
    assert [p.v.r[index] for index in (0, 3, 2, 6, 7)] == [0x03020100, 0x03020100, 0x03020100, 0x55555555, 0x0B0A0908]


# ---- page tables -----------------------------------------------------------------------------------------------------


def test_a_page_table_that_user_code_may_write_is_seen_written() -> None:
    """Ring 3 moves its own pages about, in a table that is mapped for it: each store must be seen."""

    def prepare(p: OuterRings) -> None:
        entry = p.pte_address(page(20))
        p.map(page(40), entry & ~0xFFF, FULL)
        mine = page(40) + (entry & 0xFFF)
        for number in range(20, 28):
            p.change(page(number), clear=A | D)
            p.write32(p.frame(page(number)), 0x1000 + number)
        first, second = (p.frame(page(number)) | FULL for number in (24, 25))
        p.code(WARM + f"""
            movl ${first:#x}, {mine}; movl {page(20)}, %eax        # never used before: no flush is needed
            movl ${second:#x}, {mine + 4}; movl {page(21)}, %ebx
            movl $0, {mine + 8}; movl {mine + 12}, %edx
            andl ${~(A | D) & 0xFFFFFFFF:#x}, {mine + 24}
            movl {page(22)}, %esi
        """ + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None and (event.vector, event.error, p.v.cr2) == (14, U, page(22))
    assert (p.v.r[0], p.v.r[3]) == (0x1018, 0x1019)
    assert p.vcpu.stats.direct_traced > 0


def test_a_directory_that_maps_itself() -> None:
    """Ring 3 reads its own tables through the last directory entry, and gives itself a page by it."""
    recursive = 0xFFC00000

    def prepare(p: OuterRings) -> None:
        p.write32(DIRECTORY + 1023 * 4, DIRECTORY | FULL)
        p.change(page(7), clear=P)
        entry = recursive + (page(7) >> 12) * 4
        p.code(WARM + f"""
            movl {recursive + 0x3FF000 + (USER_DATA >> 22) * 4:#x}, %eax
            movl {entry:#x}, %ebx
            orl $1, {entry:#x}
            movl $0x1234, {page(7)}
            movl {entry:#x}, %edx
        """ + DONE)

    p = same(prepare)
    assert p.read32(p.frame(page(7))) == 0x1234


@pytest.mark.parametrize("flush", ["invlpg", "cr3"])
@pytest.mark.parametrize("flags", [0, G], ids=["", "global"])
def test_a_flush_takes_a_page_out_of_the_window(flush: str, flags: int) -> None:
    """The kernel gives a page another frame. A global page outlives a CR3 load: what is seen then is the TLB's."""

    def prepare(p: OuterRings) -> None:
        p.v.cr4 |= CR4_PGE
        p.change(page(0), add=flags)
        entry = p.pte_address(page(0))
        flushing = f"invlpg {page(0):#x}" if flush == "invlpg" else "movl %cr3, %eax\nmovl %eax, %cr3"
        p.handler(0x91, f"xorl ${p.frame(page(0)) ^ p.frame(page(1)):#x}, {entry:#x}\n{flushing}\niret")
        p.write32(p.frame(page(0)), 100)
        p.write32(p.frame(page(1)), 200)
        p.code(WARM + f"""
            movl $6, %edi
        1:  incl {page(0)}; movl $60, %ecx
        2:  loop 2b
            int $0x91
            decl %edi; jnz 1b
        """ + DONE)

    if flush == "cr3" and flags:  # what a TLB still holds is not defined: no comparison
        with OuterRings() as p:
            prepare(p)
            p.go()
    else:
        p = same(prepare)
        assert (p.read32(p.frame(page(0))), p.read32(p.frame(page(1)))) == (103, 203)
    assert p.stays[3] > 0


def test_rights_that_are_taken_away_are_gone_after_the_flush() -> None:
    def prepare(p: OuterRings) -> None:
        p.handler(0x91, f"andl ${~W & 0xFFFFFFFF:#x}, {p.pte_address(page(0)):#x}\ninvlpg {page(0):#x}\niret")
        p.code(WARM + f"movl $5, {page(0)}\nint $0x91\nmovl {page(0)}, %ebx\nmovl $6, {page(0)}" + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None and (event.vector, event.error) == (14, P | W | U)
    assert p.v.r[3] == 5 and p.read32(p.frame(page(0))) == 5


def alternating(p: OuterRings, turns: int, loops: int) -> None:
    """`turns` times: ring 3 counts `loops` times into pages that differ in two address spaces, then changes space."""
    other = p.new_table()
    p.write(other, p.memory.read(DIRECTORY, PAGE))
    p.write32(other + (USER_CODE >> 22) * 4, 0)
    table = p.new_table()
    p.write(table, p.memory.read(p.pte_address(USER_CODE) & ~0xFFF, PAGE))
    p.write32(other + (USER_CODE >> 22) * 4, table | FULL & ~D)
    for number in range(4):
        p.map(page(number), FREE_FRAME + number * PAGE, P | W | U, other)
    p.handler(0x91, f"movl %cr3, %eax\nxorl ${DIRECTORY ^ other:#x}, %eax\nmovl %eax, %cr3\niret")
    p.code(WARM + f"""
        movl ${turns}, %edi
    1:  movl ${loops}, %ecx
    2:  incl {page(0)}; addl %ecx, {page(1)}; incl {page(3) + 0x800}; loop 2b
        int $0x91
        decl %edi; jnz 1b
    """ + DONE)


def test_two_address_spaces_alternate() -> None:
    turns = 12
    p = same(lambda p: alternating(p, turns, 50))
    assert [p.read32(where) for where in (p.frame(page(0)), FREE_FRAME)] == [turns // 2 * 50] * 2
    assert p.vcpu.stats.crew_turns > 0  # each has a window of its own


def test_short_bursts_in_turn_are_not_worth_a_hand_over() -> None:
    p = same(lambda p: alternating(p, 200, 1000), engine="direct")
    assert p.vcpu.stats.crew_turns < 10


def test_long_bursts_in_turn_have_a_window_each() -> None:
    turns = 200
    p = same(lambda p: alternating(p, turns, 20_000), engine="direct")
    assert p.vcpu.stats.crew_turns >= turns * 3 // 4


def test_kicks_reach_whichever_process_runs() -> None:
    turns = 20_000
    with OuterRings() as p:
        alternating(p, turns, 50)
        ended = threading.Event()

        def kicker() -> None:
            while not ended.wait(0.0002):
                p.vcpu.kick()

        thread = threading.Thread(target=kicker)
        thread.start()
        kinds = []
        try:
            while not kinds or kinds[-1] == ExitKind.KICK:
                kinds.append(p.vcpu.run(600_000_000).kind)
        finally:
            ended.set()
            thread.join()
        assert kinds[-1] == ExitKind.HLT and len(kinds) > 10
        assert p.read32(FREE_FRAME) == turns // 2 * 50 and p.vcpu.stats.crew_turns > turns // 2


def test_large_pages() -> None:
    large = 0x50000000

    def prepare(p: OuterRings) -> None:
        p.v.cr4 |= CR4_PSE
        p.write32(DIRECTORY + (large >> 22) * 4, PS | P | W | U)
        at = large + FREE_FRAME
        p.code(WARM + f"""
            movl {at}, %eax; int $0x91
            movl $7, {at + 5 * PAGE}; incl {at + 5 * PAGE + 4}; movl {page(0)}, %ebx
        """ + DONE)
        p.handler(0x91, LOG_WORD + f"movl {DIRECTORY + (large >> 22) * 4:#x}, %eax\nlog_word %eax\niret")

    p = same(prepare)
    assert p.log() == [PS | P | W | U | A]
    assert p.read32(DIRECTORY + (large >> 22) * 4) == PS | P | W | U | A | D


# ---- who sees what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_page_of_the_supervisor(ring: int, write: bool) -> None:
    def prepare(p: OuterRings) -> None:
        p.outer(ring)
        p.change(page(3), clear=U)
        p.code(WARM + (f"movl $5, {page(3)}" if write else f"movl {page(3)}, %eax") + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None
    assert (event.vector, event.error) == ((14, P | U | (W if write else 0)) if ring == 3 else (0x90, None))
    assert p.stays[ring] > 0


@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("wp", [0, CR0_WP], ids=["", "wp"])
def test_a_read_only_page(ring: int, wp: int) -> None:
    def prepare(p: OuterRings) -> None:
        p.outer(ring)
        p.v.cr0 |= wp
        p.change(page(3), clear=W | D)
        p.code(WARM + f"movl {page(3)}, %eax\nmovl $5, {page(3)}\nmovl $6, {page(3)}+8" + DONE)

    p = same(prepare)
    event = p._event()
    assert event is not None
    faults = ring == 3 or wp
    assert (event.vector, event.error) == ((14, P | W | (U if ring == 3 else 0)) if faults else (0x90, None))
    assert bool(p.pte(page(3)) & D) == (not faults)


# ---- where pages lie -------------------------------------------------------------------------------------------------


def test_page_0_is_memory_like_any_other() -> None:
    def prepare(p: OuterRings) -> None:
        p.map(0, p.frame(page(9)), P | W | U)
        p.code(WARM + """
            movl $0x1234, 4; movl 4, %eax; movl $300, %ecx
        1:  incl 8; loop 1b
            movl $0x10, %ebx; call *%ebx
        """ + DONE)
        p.write(p.frame(page(9)), bytes(16) + b"\xb9\x40\x00\x00\x00\xe2\xfe\xc3")  # mov ecx, 64; loop $; ret

    p = same(prepare)
    assert p.read32(p.frame(page(9)) + 8) == 300


@pytest.mark.parametrize("linear", [0x6000, 0xF000, 0x70000, 0x8048000, 0x7FFFF000, 0xC0000000, 0xFFFFE000, 0xFFFFF000])
def test_a_page_may_lie_anywhere(linear: int) -> None:
    def prepare(p: OuterRings) -> None:
        if p.read32(DIRECTORY + (linear >> 22) * 4) == 0:
            p.map(linear, 0, 0)
        p.map(linear, p.frame(page(9)), P | W | U)
        p.code(WARM + f"movl $0x1234, {linear}\nincl {linear + 4092}\nmovl ${linear + 16}, %ebx\ncall *%ebx" + DONE)
        p.write(p.frame(page(9)), bytes(16) + b"\xb9\x40\x00\x00\x00\xe2\xfe\xc3")

    p = same(prepare)
    event = p._event()
    assert event is not None and event.vector == 0x90
    assert p.read32(p.frame(page(9)) + 4092) == 1


def test_many_pages_in_no_order_are_one_window() -> None:
    """More areas than a window's record of stale ranges has room for; then all are flushed."""
    count = 600

    def prepare(p: OuterRings) -> None:
        for number in range(count):
            p.map(0x60000000 + number * 2 * PAGE, p.frame(page(number % 40)), FULL)
        p.handler(0x91, "movl %cr3, %eax\nmovl %eax, %cr3\niret")
        p.code(WARM + f"""
            movl $2, %edi
        1:  movl $0x60000000, %esi; movl ${count}, %ecx
        2:  incl (%esi); addl ${2 * PAGE}, %esi; loop 2b
            int $0x91
            decl %edi; jnz 1b
        """ + DONE)

    p = same(prepare)
    assert p.read32(p.frame(page(39))) == 2 * count // 40


def test_a_device_is_left_to_the_interpreter() -> None:
    """Memory of ROM is not written, and where nothing answers all bits are set."""

    def prepare(p: OuterRings) -> None:
        p.map(page(31), 0xFFF00000, P | W | U)
        p.code(WARM + f"""
            movl {page(30)}, %eax; movl $5, {page(30)}; movl {page(30)}, %ebx
            movl {page(31)}, %edx
        """ + DONE)
        p.write32(p.frame(page(30)), 0x77)
        p.memory.map_shadow_rom(p.frame(page(30)) // PAGE, 1)

    p = same(prepare)
    assert (p.v.r[0], p.v.r[3], p.v.r[2]) == (0x77, 0x77, 0xFFFFFFFF)


# ---- code that changes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["itself", "alias", "stack"])
def test_code_that_writes_code(through: str) -> None:
    """The immediate of a MOV counts up; stores go to its page, to another page of the same frame, or are pushes."""
    target = USER_CODE + 2 * PAGE

    def prepare(p: OuterRings) -> None:
        p.map(page(10), p.frame(target), FULL)
        where = page(10) if through != "itself" else target
        store = f"movl %edi, {where + 1}"
        if through == "stack":
            store = f"movl %esp, %ebp\nmovl ${where + 5}, %esp\npushl %edi\nmovl %ebp, %esp"
        p.code(WARM + f"""
            movl $40, %edi; xorl %esi, %esi
        1:  {store}
            movl ${target}, %ebx; call *%ebx
            addl %eax, %esi
            decl %edi; jnz 1b
        """ + DONE)
        p.code("movl $0, %eax\nmovl $20, %ecx\n1: loop 1b\nret", target)

    p = same(prepare)
    assert p.v.r[6] == 40 * 41 // 2
    assert p.stays[3] > 0


def test_code_on_the_page_that_it_works_on() -> None:
    """A page holds a loop and its counter, as a trampoline on a stack does."""
    p = same(lambda p: p.code(f"movl $3000, %ecx\n1: incl {USER_CODE + 0x800}\nloop 1b" + DONE))
    assert p.read32(p.frame(USER_CODE) + 0x800) == 3000


def test_code_becomes_sensitive() -> None:
    """A page that ran directly gets a CPUID: it must not run directly any more."""
    target = USER_CODE + 2 * PAGE

    def prepare(p: OuterRings) -> None:
        p.code(WARM + f"""
            movl ${target}, %ebx; call *%ebx
            movw $0xa20f, {target}
            xorl %eax, %eax; movl ${target}, %ebx; call *%ebx
        """ + DONE)
        p.code("nop\nnop\nmovl %ebx, %esi\nmovl $20, %ecx\n1: loop 1b\nret", target)

    p = same(prepare)
    assert p.v.r[6] not in {0, target}, "EBX of CPUID: a part of the vendor's name"


def test_dma_into_code_between_runs() -> None:
    """A device writes a page that is mapped executable."""
    target = USER_CODE + 2 * PAGE

    def prepare(p: OuterRings) -> None:
        p.code(WARM + f"1: movl ${target}, %ebx\ncall *%ebx\naddl %eax, %esi\nint $0x91\njmp 1b")
        p.handler(0x91, "hlt\niret")
        p.code("movl $1, %eax\nmovl $20, %ecx\n1: loop 1b\nret", target)

    def until(p: OuterRings) -> bool:
        done = p.v.r[6] >= 100
        with p.memory.dma(p.frame(target) + 1, 4, True) as views:
            views[0][:] = (p.v.r[6] * 2 + 3).to_bytes(4, "little")
        return done

    p = same(prepare, until=until)
    assert p.v.r[6] >= 100
    assert p.stays[3] > 3


def while_it_runs(source: str, act: str, linear: int, value: int) -> OuterRings:
    """A device writes a word while an endless loop runs directly, which ends when it sees it."""
    with OuterRings() as p:
        p.code(source)

        def device() -> None:
            with p.memory.dma(p.frame(linear), 4, True) as views:
                views[0][:] = value.to_bytes(4, "little")

        timer = threading.Timer(0.05, device)
        timer.start()
        p.go()
        timer.join()
        assert p._event() is not None, f"{act}: {p.last}"
        return p


def test_dma_into_data_is_seen_at_once() -> None:
    p = while_it_runs(WARM + f"movl $0, {page(2)}\n1: cmpl $0x4711, {page(2)}\njne 1b" + DONE, "data", page(2), 0x4711)
    assert p.stays[3] > 0


def test_dma_into_code_that_runs_is_seen() -> None:
    """90 90 90 90 becomes EB 02 .. ..: a jump out of the loop."""
    p = while_it_runs("1: nop\nnop\nnop\nnop\njmp 1b" + DONE, "code", USER_CODE, 0x909004EB)
    assert p.stays[3] > 0


# ---- the stack -------------------------------------------------------------------------------------------------------


def test_the_stack_grows_into_fresh_pages() -> None:
    def prepare(p: OuterRings) -> None:
        for number in range(3):
            p.change(USER_STACK + number * PAGE, clear=A | D)
        p.code(WARM + """
            xorl %edx, %edx; movl $3000, %ecx
        1:  pushl %ecx; loop 1b
            movl $3000, %ecx
        2:  popl %eax; addl %eax, %edx; loop 2b
        """ + DONE)

    p = same(prepare)
    assert p.v.r[2] == 3000 * 3001 // 2
    assert p.stays[3] > 0
