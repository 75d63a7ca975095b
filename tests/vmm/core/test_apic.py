"""Local APICs: registers, priorities, messages, the timer, and the paths that INTR and NMI take."""

from __future__ import annotations

import random

import pytest

from tests.vmm.core.interrupt_board import APIC_PAGE, EXT, INIT, MSR_ENABLED, NEVER, NMI, SIPI, Board, multiprocessor
from vmm._core import lib

TPR, PPR, EOI, LDR, DFR, SVR, ISR, TMR, IRR = 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0, 0x100, 0x180, 0x200
ESR, ICR, ICR_HIGH, LVT_TIMER, LINT0, LINT1, LVT_ERROR = 0x280, 0x300, 0x310, 0x320, 0x350, 0x360, 0x370
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0
FIXED, LOWEST, SMI, NMI_MODE, INIT_MODE, STARTUP, EXTINT = (n << 8 for n in (0, 1, 2, 4, 5, 6, 7))
LOGICAL, ASSERT, LEVEL, MASKED, PERIODIC = 1 << 11, 1 << 14, 1 << 15, 1 << 16, 1 << 17
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18


@pytest.fixture
def board() -> Board:
    return multiprocessor()


# ---- registers -----------------------------------------------------------------------------------------------------


def test_reset_values() -> None:
    board = Board(vcpus=2)
    fixed = dict.fromkeys((0x20, TPR, PPR, LDR, ESR, ICR, INITIAL, CURRENT, DIVIDE), 0)
    fixed |= {0x30: 0x00050011, DFR: 0xFFFFFFFF, SVR: 0xFF}
    for register, value in fixed.items():
        assert board.apic_read(register) == value, hex(register)
    for register in range(LVT_TIMER, LVT_ERROR + 1, 0x10):
        assert board.apic_read(register) == MASKED
    assert board.apic_read(0x20, cpu=1) == 1 << 24


WRITABLE = {
    0x20: 0xFF000000, TPR: 0xFF, LDR: 0xFF000000, SVR: 0x3F0, ICR_HIGH: 0xFF000000,
    LVT_TIMER: 0x300FF, 0x330: 0x107FF, 0x340: 0x107FF, LINT0: 0x1A7FF, LINT1: 0x1A7FF, LVT_ERROR: 0x100FF,
    INITIAL: 0xFFFFFFFF, DIVIDE: 0xB,
}


@pytest.mark.parametrize("register", WRITABLE)
def test_writable_bits_stick_and_others_do_not(register: int) -> None:
    board = Board()
    board.apic_write(SVR, 0x1FF)
    board.apic_write(register, 0xFFFFFFFF)
    fixed = 0x0F if register == SVR else 0
    assert board.apic_read(register) == WRITABLE[register] | fixed
    if register != SVR:
        board.apic_write(register, 0)
        assert board.apic_read(register) == 0


def test_delivery_status_clears_and_dfr_keeps_its_ones(board: Board) -> None:
    board.send(FIXED | 0x40 | ASSERT)
    assert board.apic_read(ICR) & 1 << 12 == 0
    board.apic_write(DFR, 0)
    assert board.apic_read(DFR) == 0x0FFFFFFF


def test_parts_of_a_register_can_be_read_but_only_whole_ones_written() -> None:
    board = Board(vcpus=2)
    assert board.read(APIC_PAGE + 0x23, cpu=1, size=1) == 1
    assert board.read(APIC_PAGE + 0x30, size=2) == 0x0011
    assert board.read(APIC_PAGE + 0x34) == 0
    board.write(APIC_PAGE + TPR, 0x30, size=1)
    assert board.apic_read(TPR) == 0


def test_other_pages_are_not_ours() -> None:
    board = Board()
    assert not lib.intr_mmio_read(board.page, 0, MSR_ENABLED, 0xFED00000, 4, board._value)
    assert not lib.intr_mmio_read(board.page, 0, 0xFEE00100, APIC_PAGE, 4, board._value)  # disabled in the MSR
    board.apic_base[0] = 0xFED00900
    assert board.read(0xFED00030) == 0x00050011


# ---- acceptance and priority ---------------------------------------------------------------------------------------


def test_priorities_classes_and_eoi(board: Board) -> None:
    for vector in (0x41, 0x4F, 0x63, 0x22):
        board.send(FIXED | SELF | vector | ASSERT)
    assert board.poll() == 0x63
    assert board.apic_read(PPR) == 0x60
    assert board.poll() == -1
    board.apic_write(EOI, 0)
    assert board.poll() == 0x4F
    assert board.poll() == -1  # 41h is of the same class
    board.send(FIXED | SELF | 0x50 | ASSERT)
    assert board.poll() == 0x50
    assert board.requests(bank=ISR) == {0x4F, 0x50}
    board.apic_write(EOI, 0)
    board.apic_write(EOI, 0)
    assert board.poll() == 0x41
    board.apic_write(EOI, 0)
    assert board.poll() == 0x22


def test_tpr_holds_back_its_class_and_below(board: Board) -> None:
    board.apic_write(TPR, 0x4F)
    assert board.apic_read(PPR) == 0x4F
    board.send(FIXED | SELF | 0x48 | ASSERT)
    assert board.pending() == 0
    board.take_kicks()
    board.apic_write(TPR, 0x3F)
    assert board.pending() == EXT
    assert board.take_kicks() & 1


def test_ppr_is_tpr_when_their_classes_are_equal(board: Board) -> None:
    board.send(FIXED | SELF | 0x41 | ASSERT)
    assert board.poll() == 0x41
    board.apic_write(TPR, 0x45)
    assert board.apic_read(PPR) == 0x45
    board.apic_write(TPR, 0x3F)
    assert board.apic_read(PPR) == 0x40


def test_one_request_per_vector_waits_besides_the_one_in_service(board: Board) -> None:
    board.send(FIXED | SELF | 0x40 | ASSERT)
    assert board.poll() == 0x40
    for _ in range(3):
        board.send(FIXED | SELF | 0x40 | ASSERT)
    board.apic_write(EOI, 0)
    assert board.poll() == 0x40
    board.apic_write(EOI, 0)
    assert board.poll() == -1


@pytest.mark.parametrize("seed", range(5))
def test_random_vectors_come_out_as_a_priority_list_says(board: Board, seed: int) -> None:
    rng = random.Random(seed)
    waiting: set[int] = set()
    service: list[int] = []
    tpr = 0
    for _ in range(2000):
        action = rng.randrange(4)
        if action == 0:
            vector = rng.randrange(16, 256)
            board.send(FIXED | SELF | vector | ASSERT)
            waiting.add(vector)
        elif action == 1:
            tpr = rng.choice([0, 0, 0x10, rng.randrange(256)])
            board.apic_write(TPR, tpr)
        elif action == 2:
            board.apic_write(EOI, 0)
            if service:
                service.remove(max(service))
        else:
            threshold = max([tpr >> 4] + [v >> 4 for v in service])
            best = max(waiting, default=-1)
            want = best if best >> 4 > threshold else -1
            assert board.poll() == want
            if want >= 0:
                waiting.remove(want)
                service.append(want)


def test_software_disable_masks_local_entries_and_refuses_messages(board: Board) -> None:
    board.apic_write(LINT1, NMI_MODE)
    board.apic_write(INITIAL, 1234)
    board.apic_write(SVR, 0xFF)
    assert board.apic_read(INITIAL) == 1234
    assert board.apic_read(LINT1) == NMI_MODE | MASKED
    board.apic_write(LINT1, NMI_MODE)
    assert board.apic_read(LINT1) == NMI_MODE | MASKED
    board.send(FIXED | 0x40 | ASSERT, destination=0, cpu=1)
    assert board.requests() == set()
    board.send(NMI_MODE | ASSERT, destination=0, cpu=1)
    assert board.pending() == NMI


# ---- messages ------------------------------------------------------------------------------------------------------


def targets(board: Board, vector: int) -> set[int]:
    return {cpu for cpu in range(4) if vector in board.requests(cpu)}


@pytest.mark.parametrize(("low", "destination", "expected"), [
    (0, 2, {2}), (0, 0xFF, {0, 1, 2, 3}), (0, 0x0F, {0, 1, 2, 3}), (0, 9, set()),
    (LOGICAL, 0b1010, {1, 3}), (LOGICAL, 0xFF, {0, 1, 2, 3}), (LOGICAL, 0xF0, set()),
    (SELF, 0, {1}), (ALL, 0, {0, 1, 2, 3}), (OTHERS, 0, {0, 2, 3}),
])
def test_destinations(board: Board, low: int, destination: int, expected: set[int]) -> None:
    board.send(FIXED | low | 0x55 | ASSERT, destination, cpu=1)
    assert targets(board, 0x55) == expected
    assert board.take_kicks() & ~0b10 == sum(1 << cpu for cpu in expected) & ~0b10


def test_cluster_destinations(board: Board) -> None:
    for cpu, logical in enumerate((0x11, 0x12, 0x21, 0x22)):
        board.apic_write(DFR, 0x0FFFFFFF, cpu)
        board.apic_write(LDR, logical << 24, cpu)
    for destination, expected in ((0x13, {0, 1}), (0x22, {3}), (0xF1, {0, 2}), (0xFF, {0, 1, 2, 3}), (0x33, set())):
        vector = 0x60 + len(expected) * 16 + destination % 16
        board.send(FIXED | LOGICAL | vector | ASSERT, destination)
        assert targets(board, vector) == expected, hex(destination)


def test_lowest_priority_goes_to_the_least_busy_and_takes_turns(board: Board) -> None:
    for cpu, tpr in enumerate((0x50, 0x20, 0x20, 0x60)):
        board.apic_write(TPR, tpr, cpu)
    for vector in (0x80, 0x81, 0x82, 0x83):
        board.send(LOWEST | LOGICAL | vector | ASSERT, 0x0F)
    where = [targets(board, vector) for vector in (0x80, 0x81, 0x82, 0x83)]
    assert where in ([{1}, {2}] * 2, [{2}, {1}] * 2)
    board.apic_write(SVR, 0x1FF, 3)
    board.send(FIXED | 0x90 | ASSERT, 3)
    board.send(LOWEST | LOGICAL | 0x90 | ASSERT, 0x0F)
    assert targets(board, 0x90) == {3}  # the focus processor


def test_init_and_sipi_start_a_processor_once() -> None:
    board = Board(vcpus=2)
    board.init_apic(0)
    board.send(0xC500, 1)  # INIT, level assert
    assert board.pending(1) == INIT
    board.send(STARTUP | 0x9F | ASSERT, 1)
    assert board.pending(1) == INIT
    board.take(INIT, 1)
    assert board.pending(1) == SIPI
    board.send(STARTUP | 0x20 | ASSERT, 1)  # the second one of the usual pair
    assert board.take(SIPI, 1) == 0x9F
    board.send(STARTUP | 0x20 | ASSERT, 1)
    assert board.pending(1) == 0


def test_init_level_de_assert_is_ignored(board: Board) -> None:
    board.send(INIT_MODE | LEVEL, 1)
    assert board.pending(1) == 0


def test_init_resets_the_apic_but_not_its_identifier(board: Board) -> None:
    board.apic_write(0x20, 7 << 24, 2)
    board.send(INIT_MODE | ASSERT, 7)
    board.take(INIT, 2)
    assert (board.apic_read(SVR, 2), board.apic_read(0x20, 2)) == (0xFF, 7 << 24)
    board.send(NMI_MODE | ASSERT, 7)
    assert board.pending(2) == 0  # held while it waits for a SIPI
    board.send(STARTUP | 1 | ASSERT, 7)
    board.take(SIPI, 2)
    assert board.pending(2) == NMI


def test_smi_and_reserved_modes_do_nothing(board: Board) -> None:
    for mode in (SMI, 3 << 8, EXTINT):
        board.send(mode | 0x40 | ASSERT, 1)
    assert (board.pending(1), board.requests(1)) == (0, set())


# ---- errors --------------------------------------------------------------------------------------------------------


def test_illegal_vectors_and_registers_are_latched_by_a_write_to_esr(board: Board) -> None:
    board.send(FIXED | 0x0F | ASSERT, 1)
    assert board.apic_read(ESR) == 0
    board.apic_write(ESR, 0)
    assert board.apic_read(ESR) == 0x20
    board.route(5, 0x05, destination=1)
    board.edge(5)
    board.apic_write(ESR, 0, 1)
    assert board.apic_read(ESR, 1) == 0x40
    board.apic_write(ESR, 0)
    assert board.apic_read(ESR) == 0
    for register in (0x040, 0x3F0):
        board.apic_read(register)
        board.apic_write(ESR, 0)
        assert board.apic_read(ESR) == 0x80
        board.apic_write(register, 1)
        board.apic_write(ESR, 0)
        assert board.apic_read(ESR) == 0x80


def test_an_error_raises_its_local_entry(board: Board) -> None:
    board.apic_write(LVT_ERROR, 0xFE)
    board.send(FIXED | 0x02 | ASSERT, 1)
    assert board.poll() == 0xFE
    board.apic_write(LVT_ERROR, 0x01)  # itself illegal: no storm
    board.apic_write(EOI, 0)
    board.apic_read(0x3F0)
    assert board.poll() == -1


# ---- timer ---------------------------------------------------------------------------------------------------------


DIVIDERS = {0xB: 1, 0x0: 2, 0x1: 4, 0x2: 8, 0x3: 16, 0x8: 32, 0x9: 64, 0xA: 128}


@pytest.mark.parametrize("code", DIVIDERS)
def test_a_one_shot_counts_at_the_bus_clock_divided(board: Board, code: int) -> None:
    tick_ns = 10**9 // lib.RF_APIC_BUS_HZ * DIVIDERS[code]
    board.apic_write(DIVIDE, code)
    board.apic_write(LVT_TIMER, 0x40)
    board.apic_write(INITIAL, 1000)
    for _ in range(10):
        board.advance(100 * tick_ns)
        board.timers()
        left = board.apic_read(CURRENT)
        assert left == 1000 - board.now // tick_ns
        assert (board.pending() != 0) == (left == 0)
    assert board.poll() == 0x40
    assert board.timers() == NEVER


def test_a_periodic_timer_reloads_and_late_ticks_are_not_lost(board: Board) -> None:
    board.apic_write(DIVIDE, 0xB)
    board.apic_write(LVT_TIMER, PERIODIC | 0x40)
    board.apic_write(INITIAL, 100_000)
    assert board.sleep() == 1_000_000
    assert board.poll() == 0x40
    board.apic_write(EOI, 0)
    board.advance(5_500_000)
    board.timers()
    assert board.apic_read(CURRENT) == 50_000
    ticks = 0
    while board.poll() == 0x40:
        ticks += 1
        board.apic_write(EOI, 0)
    assert ticks == 5
    assert board.sleep() == 500_000


def test_a_new_initial_count_forgets_late_ticks(board: Board) -> None:
    board.apic_write(DIVIDE, 0xB)
    board.apic_write(LVT_TIMER, PERIODIC | 0x40)
    board.apic_write(INITIAL, 100_000)
    board.advance(5_500_000)
    board.timers()
    board.apic_write(INITIAL, 100_000)
    assert board.poll() == 0x40
    board.apic_write(EOI, 0)
    assert board.poll() == -1


def test_a_masked_timer_counts_silently(board: Board) -> None:
    board.apic_write(DIVIDE, 0xB)
    board.apic_write(LVT_TIMER, MASKED | 0x40)
    board.apic_write(INITIAL, 100)
    assert board.timers() == NEVER
    board.advance(600)
    assert board.apic_read(CURRENT) == 40
    board.advance(600)
    assert board.apic_read(CURRENT) == 0
    board.apic_write(LVT_TIMER, 0x40)
    board.timers()
    assert board.poll() == -1


def test_a_new_divider_goes_on_from_the_present_count(board: Board) -> None:
    board.apic_write(DIVIDE, 0xB)
    board.apic_write(LVT_TIMER, 0x40)
    board.apic_write(INITIAL, 1000)
    board.advance(4000)
    board.apic_write(DIVIDE, 0x3)
    assert board.apic_read(CURRENT) == 600
    board.advance(160 * 100)
    assert board.apic_read(CURRENT) == 500
    board.apic_write(INITIAL, 0)
    assert board.timers() == NEVER


def test_each_runner_expires_its_own_timer(board: Board) -> None:
    board.apic_write(DIVIDE, 0xB, 2)
    board.apic_write(LVT_TIMER, 0x40, 2)
    board.apic_write(INITIAL, 100, 2)
    assert board.timers(0) == NEVER
    assert board.timers(2) == board.now + 1000
    board.advance(1000)
    board.timers(0)
    assert board.pending(2) == 0
    board.timers(2)
    assert board.pending(2) == EXT


# ---- local pins and the 8259 pair ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "msr", "software"])
def test_intr_reaches_the_boot_vcpu_around_a_disabled_apic(how: str) -> None:
    board = Board(vcpus=2)
    board.init_pic()
    if how == "msr":
        board.apic_base[0] = APIC_PAGE | 0x100
        lib.intr_set_apic_base(board.page, 0, board.apic_base[0])
    elif how == "software":
        board.apic_write(SVR, 0x1FF)
        board.apic_write(SVR, 0x0FF)
    board.line(4, 1)
    assert board.pending(1) == 0
    assert board.poll() == 0x24


def test_lint0_as_extint_is_virtual_wire_and_masked_is_not(board: Board) -> None:
    board.init_pic()
    board.line(4, 1)
    assert board.poll() == -1
    board.apic_write(LINT0, EXTINT | LEVEL)
    assert board.take_kicks() & 1
    assert board.poll() == 0x24


def test_firmware_leaves_virtual_wire() -> None:
    board = Board(vcpus=2)
    board.interrupts.virtual_wire()
    assert (board.apic_read(SVR), board.apic_read(LINT0), board.apic_read(LINT1)) == (0x1FF, 0x8700, 0x400)
    assert (board.inb(0x21), board.inb(0xA1)) == (0xFB, 0xFF)
    board.outb(0x21, 0xF9)
    board.line(1, 1)
    assert board.poll() == 0x09
    board.interrupts.raise_nmi()
    assert board.pending() == NMI


def test_pin_0_of_the_io_apic_can_carry_intr(board: Board) -> None:
    board.init_pic()
    board.route(0, EXTINT, destination=1)
    board.line(4, 1)
    assert (board.pending(0), board.pending(1)) == (0, EXT)
    assert board.poll(1) == 0x24


def test_lint0_as_nmi_fires_when_intr_rises(board: Board) -> None:
    board.init_pic()
    board.apic_write(LINT0, NMI_MODE)
    board.line(4, 1)
    assert board.pending() == NMI
    board.take(NMI)
    assert board.pending() == 0


def test_an_apic_vector_goes_before_the_8259s(board: Board) -> None:
    board.init_pic()
    board.apic_write(LINT0, EXTINT)
    board.line(4, 1)
    board.send(FIXED | SELF | 0x31 | ASSERT)
    assert (board.poll(), board.poll()) == (0x31, 0x24)


def test_a_chipset_nmi_reaches_the_boot_vcpu_around_a_disabled_apic() -> None:
    board = Board(vcpus=2)
    board.interrupts.raise_nmi()
    assert (board.pending(0), board.pending(1)) == (NMI, 0)


def test_a_chipset_nmi_needs_lint1(board: Board) -> None:
    board.interrupts.raise_nmi()
    assert board.pending() == 0
    board.apic_write(LINT1, NMI_MODE)
    board.interrupts.raise_nmi()
    assert (board.pending(0), board.pending(1)) == (NMI, 0)
    board.take(NMI)
    assert board.pending() == 0


def test_disabling_in_the_msr_resets_the_apic(board: Board) -> None:
    lib.intr_set_apic_base(board.page, 0, APIC_PAGE | 0x100)
    board.send(NMI_MODE | ASSERT, 0, cpu=1)
    assert board.pending() == 0  # it is not on the bus any more
    lib.intr_set_apic_base(board.page, 0, MSR_ENABLED)
    assert (board.apic_read(SVR), board.apic_read(LDR)) == (0xFF, 0)


def test_moving_the_page_keeps_the_state(board: Board) -> None:
    board.apic_base[0] = 0xFED00900
    lib.intr_set_apic_base(board.page, 0, board.apic_base[0])
    assert board.read(0xFED00000 + SVR) == 0x1FF


def test_what_an_acknowledgement_brings_another_vcpu_is_owed_to_it(board: Board) -> None:
    """The 8254's next late tick is let through by the acknowledgement of the one before, and goes to an idle vCPU."""
    for cpu in range(4):
        board.apic_write(SVR, 0x3FF, cpu)  # no focus processor
    board.route(2, LOGICAL | LOWEST | 0x30, destination=0x03)
    board.outb(0x43, 0x34)
    board.outb(0x40, 100, 0)
    board.ticks(350)
    board.timers(0)
    first = next(cpu for cpu in range(4) if board.pending(cpu) & EXT)
    assert lib.intr_owed(board.page) == 0
    assert board.ack(first) == 0x30
    other = 1 - first
    assert board.pending(other) & EXT
    assert lib.intr_owed(board.page) == 1 << other
    assert lib.intr_owed(board.page) == 0
