"""The accesses that the core answers for a PCnet: nobody can tell, neither a guest nor the cable."""

from __future__ import annotations

import random

import pytest

from tests.conformance.device_driver import accesses
from tests.conformance.network_adapters import PORTS, SETUP
from tests.hw.net.core_ports import VLANCE, Bench
from tests.hw.net.pcnet_driver import IDON, IENA, INIT, INTR, RAP, RDP, STOP, STRT, TDMD

COUNT = 1000  # times the specimen's weight
LINK = (17 + 1) % 4
RINT_MASK = 0x0400


@pytest.mark.parametrize("seed", range(6))
def test_a_chip_with_a_core_is_a_chip_without(seed: int) -> None:
    plain, cored = Bench(cored=False), Bench(cored=True)
    source = random.Random(seed)
    assert cored.core
    for number, access in enumerate([*SETUP, *accesses(VLANCE, seed, COUNT)]):
        if source.randrange(4) == 0:
            cored.nic.set_waits(bool(source.randrange(2)))
        results = [(one.board.do(access), one.outputs(), one.acts()) for one in (plain, cored)]
        assert results[0] == results[1], f"{number}: {access}"
        if number % 64 == 0:
            assert plain.chip_state() == cored.chip_state(), f"{number}: {access}"
    assert plain.board.ram.bytes == cored.board.ram.bytes
    assert cored.core.answered > COUNT // 2


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_on_from_a_copy_of_its_state_and_the_cores(seed: int) -> None:
    script = [*SETUP, *accesses(VLANCE, seed, COUNT)]
    first = Bench(cored=True)
    for access in script[: len(script) // 2]:
        first.board.do(access)
    first.board.take_acts()
    second = first.copy()
    for access in script[len(script) // 2 :]:
        results = [(one.board.do(access), one.outputs(), one.acts()) for one in (first, second)]
        assert results[0] == results[1], f"{access}"


class Driver:
    """What a driver does, at whichever side answers."""

    def __init__(self) -> None:
        self.bench = Bench(cored=True)
        assert self.bench.core
        self.core, self.board, self.nic = self.bench.core, self.bench.board, self.bench.nic
        for access in SETUP:
            self.board.do(access)
        self.set_csr(0, STOP)
        self.set_csr(1, 0x800)
        self.set_csr(0, INIT)
        self.set_csr(0, IDON | STRT | IENA)

    def answers(self) -> int:
        """By the core, since it was asked last."""
        taken, self.core.answered = self.core.answered, 0
        return taken

    def get(self, offset: int) -> int:
        return self.board.ports.read(PORTS + offset, 2)

    def put(self, offset: int, value: int) -> None:
        self.board.ports.write(PORTS + offset, 2, value)

    def csr(self, number: int) -> int:
        self.put(RAP, number)
        return self.get(RDP)

    def set_csr(self, number: int, value: int) -> None:
        self.put(RAP, number)
        self.put(RDP, value)

    def interrupt(self) -> None:
        """Something that interrupts: initialization is done."""
        self.set_csr(0, STOP)
        self.set_csr(0, INIT)
        self.set_csr(0, IENA)
        self.answers()


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_an_interrupt_is_served_without_leaving_the_guest(driver: Driver) -> None:
    driver.interrupt()
    assert driver.core.level(LINK) and driver.csr(0) & (INTR | IDON) == INTR | IDON
    driver.set_csr(0, IDON)
    assert not driver.core.level(LINK) and not driver.csr(0) & (INTR | IDON | IENA)
    driver.set_csr(3, driver.csr(3) | 0x5F00)
    driver.set_csr(3, driver.csr(3) & 0x00FF)
    driver.set_csr(0, IENA)
    assert driver.csr(0) & IENA and driver.get(RAP) == 0
    assert driver.answers() == 2 + 2 + 2 + 4 + 4 + 2 + 3


@pytest.mark.parametrize(("number", "value"), [
    (0, TDMD | IENA), (0, INIT), (0, STRT), (0, STOP), (4, 0x915), (5, 0), (15, 0),
])  # fmt: skip
def test_what_makes_the_chip_work_leaves_it(driver: Driver, number: int, value: int) -> None:
    driver.answers()
    driver.set_csr(number, value)
    assert driver.answers() == 1  # the register address


def test_while_frames_wait_the_end_of_an_interrupt_leaves_it(driver: Driver) -> None:
    driver.interrupt()
    driver.nic.set_waits(True)
    driver.set_csr(0, IDON)
    driver.set_csr(3, RINT_MASK)
    driver.set_csr(0, IENA)
    assert driver.answers() == 6 and driver.nic.attended
    driver.board.take_acts()
    driver.set_csr(3, 0)
    assert driver.answers() == 1 and ("ready",) in driver.board.take_acts()
    driver.nic.set_waits(False)
    driver.set_csr(3, 0)
    assert driver.answers() == 2 and driver.board.take_acts() == []


def test_the_driver_is_at_work_until_the_core_sees_that_it_is_done(driver: Driver) -> None:
    driver.interrupt()
    assert driver.nic.attended
    driver.set_csr(0, IDON)
    assert driver.nic.attended
    driver.set_csr(0, IENA)
    assert not driver.nic.attended and driver.answers() == 4


def test_nothing_is_answered_where_the_ports_are_not_the_chips(driver: Driver) -> None:
    driver.board.ports.write(PORTS + 0x20, 2, 0x4392)
    driver.answers()
    assert driver.csr(0) == 0xFFFF and driver.answers() == 0
    driver.board.ports.write(PORTS + 0x20, 2, 0x2934)
    assert driver.csr(0) == STOP and driver.answers() == 2
    driver.nic.config_write(0x04, 2, 6)
    assert driver.csr(0) == 0xFFFF and driver.answers() == 0
    driver.nic.config_write(0x04, 2, 7)
    driver.nic.config_write(0x10, 4, PORTS + 0x100)
    assert driver.csr(0) == 0xFFFF and driver.answers() == 0


def test_an_interrupt_stays_asserted_when_its_ports_move(driver: Driver) -> None:
    driver.interrupt()
    driver.nic.config_write(0x04, 2, 6)
    assert driver.board.links.level(LINK) and not driver.core.page.nic_lines
    driver.nic.config_write(0x04, 2, 7)
    assert not driver.board.links.level(LINK) and driver.core.page.nic_lines == 1 << 16 + LINK


def test_a_link_that_is_rerouted_takes_the_interrupt_along(driver: Driver) -> None:
    driver.interrupt()
    driver.board.links.inputs_of = lambda link: 1 << 16 + link | 1 << 11
    for tell in driver.board.links.rerouted:
        tell()
    assert driver.core.page.nic_lines == 1 << 16 + LINK | 1 << 11
    driver.set_csr(0, IDON)
    assert driver.core.page.nic_lines == 0


def test_double_word_accesses_are_answered_once_they_are_in_force(driver: Driver) -> None:
    read, write = driver.board.ports.read, driver.board.ports.write
    driver.answers()
    write(PORTS + 0x10, 4, 0)
    write(PORTS + 0x14, 4, 3)
    write(PORTS + 0x10, 4, 0x1234)
    assert (read(PORTS + 0x14, 4), read(PORTS + 0x10, 4)) == (3, 0x1234) and driver.answers() == 4
    read(PORTS + 0x12, 2)
    read(PORTS + 0x10, 2)
    assert driver.answers() == 0


def test_causes_of_other_registers_assert_the_line_too(driver: Driver) -> None:
    driver.set_csr(4, 0x0080)  # UINTCMD
    assert driver.core.level(LINK)
    driver.answers()
    assert driver.csr(0) & INTR and driver.answers() == 2
    driver.set_csr(0, 0)
    assert driver.answers() == 2 and not driver.core.level(LINK)
    assert driver.csr(0) & INTR


def test_a_user_command_waits_for_the_enable_outside(driver: Driver) -> None:
    driver.set_csr(0, 0)
    driver.set_csr(4, 0x0080)
    assert not driver.core.level(LINK)
    driver.set_csr(0, IENA)
    assert driver.core.level(LINK)
