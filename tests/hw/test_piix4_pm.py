"""PCI configuration and power-off, played as guests play them."""

import pytest

from hw.bus import PortBus
from hw.pci import PciHost, PciHostState
from hw.piix4_pm import Piix4Pm, Piix4PmState
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT, SLOT

PM = 0x80003B00


class Board:
    def __init__(self) -> None:
        self.bus = PortBus()
        self.off = 0
        self.base = self.sci = -1
        self.host = PciHost(PciHostState())
        self.pm = Piix4Pm(Piix4PmState(), self.bus, self, self)
        self.bus.claim(0xCF8, 8, self.host, width=4)
        self.bus.claim(APMC_PORT, APM_PORTS, self.pm.apm)
        self.host.attach(*SLOT, self.pm)
        self.host.reset()
        self.pm.reset()

    def power_off(self) -> None:
        self.off += 1

    def exit_with(self, status: int) -> None:
        raise AssertionError

    def set_pm_base(self, port: int) -> None:
        self.base = port

    def set_sci_enable(self, on: bool) -> None:
        self.sci = int(on)

    def config(self, register: int, width: int = 4) -> int:
        self.bus.write(0xCF8, 4, PM | register & 0xFC)
        return self.bus.read(0xCFC + register % 4, width)

    def configure(self, register: int, value: int, width: int = 4) -> None:
        self.bus.write(0xCF8, 4, PM | register & 0xFC)
        self.bus.write(0xCFC + register % 4, width, value)


@pytest.fixture
def board() -> Board:
    return Board()


def test_the_address_latch_reads_back_and_ignores_narrow_writes(board: Board) -> None:
    board.bus.write(0xCF8, 4, 0x80000000)
    board.bus.write(0xCF8, 1, 0x12)
    board.bus.write(0xCFB, 1, 0x01)
    assert board.bus.read(0xCF8, 4) == 0x80000000


def test_an_absent_function_reads_ones(board: Board) -> None:
    board.bus.write(0xCF8, 4, 0x80000000)
    assert board.bus.read(0xCFC, 4) == 0xFFFFFFFF
    board.bus.write(0xCF8, 4, 0)
    assert board.bus.read(0xCFC, 4) == 0xFFFFFFFF


def test_identification(board: Board) -> None:
    assert board.config(0x00) == 0x71138086
    assert board.config(0x08) == 0x06800008
    assert board.config(0x2C) == 0x197615AD
    assert board.config(0x0A, 2) == 0x0680
    board.configure(0x00, 0)
    assert board.config(0x00) == 0x71138086


def test_pmbase_is_io_and_aligned_to_64(board: Board) -> None:
    board.configure(0x40, 0xFFFFFFFF)
    assert board.config(0x40) == 0x0000FFC1


def test_the_block_is_decoded_once_pmiose_is_set(board: Board) -> None:
    board.configure(0x40, 0x1001)
    assert (board.base, board.bus.read(0x1004, 2)) == (0, 0xFFFF)
    board.configure(0x80, 1, 1)
    assert (board.base, board.bus.read(0x1004, 2)) == (0x1000, 0)
    board.configure(0x40, 0x2001)
    assert (board.base, board.bus.read(0x1004, 2), board.bus.read(0x2004, 2)) == (0x2000, 0xFFFF, 0)


@pytest.mark.parametrize(("offset", "width", "value"), [(4, 2, 0x2000), (5, 1, 0x20), (4, 4, 0x2000)])
def test_slp_en_with_type_0_is_soft_off(board: Board, offset: int, width: int, value: int) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    board.bus.write(0x1000 + offset, width, value)
    assert board.off == 1
    assert board.bus.read(0x1004, 2) & 0x2000 == 0, "SLP_EN reads as 0"


def test_another_sleep_type_is_no_power_off(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    board.bus.write(0x1004, 2, 0x2400)
    assert board.off == 0


def test_sci_enable_reaches_the_core(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    board.bus.write(0x1004, 2, 1)
    assert board.sci == 1


def test_the_cores_registers_are_not_claimed(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    assert board.bus.read(0x1000, 4) == 0xFFFFFFFF
    assert board.bus.read(0x1008, 4) == 0xFFFFFFFF


def test_firmware_finds_smm_set_up_and_ports_present(board: Board) -> None:
    assert board.config(0x58) == 0x02000000
    assert [board.config(offset, 1) for offset in (0x5F, 0x63, 0x67)] == [0x80, 0x60, 0x98]


def test_apm_ports_store_and_turn_acpi_on_and_off(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    board.bus.write(0xB3, 1, 0x5A)
    board.bus.write(0xB2, 1, 0xF1)
    assert (board.bus.read(0xB2, 2), board.sci, board.bus.read(0x1004, 2)) == (0x5AF1, 1, 1)
    board.bus.write(0xB2, 1, 0x33)
    assert board.sci == 1
    board.bus.write(0xB2, 1, 0xF0)
    assert (board.sci, board.bus.read(0x1004, 2)) == (0, 0)


def test_global_release_reads_as_0(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    board.bus.write(0x1004, 2, 0x0005)
    assert board.bus.read(0x1004, 2) == 1


def smbus(board: Board) -> None:
    board.configure(0x90, 0x1041)
    board.configure(0xD2, 0x09, 1)


def test_the_smbus_host_is_decoded_once_it_is_enabled(board: Board) -> None:
    board.configure(0x90, 0xFFFFFFFF)
    assert board.config(0x90) == 0xFFF1
    board.configure(0x90, 0x1041)
    assert board.bus.read(0x1040, 1) == 0xFF
    board.configure(0xD2, 0x09, 1)
    assert board.bus.read(0x1040, 1) == 0
    board.configure(0xD2, 0x08, 1)
    assert board.bus.read(0x1040, 1) == 0xFF


def test_a_transfer_on_the_empty_smbus_is_a_device_error(board: Board) -> None:
    """As a driver does it: address, command, START; poll; clear the status by writing it back."""
    smbus(board)
    board.bus.write(0x1044, 1, 0xA1)
    board.bus.write(0x1043, 1, 0x00)
    board.bus.write(0x1042, 1, 0x48)
    assert board.bus.read(0x1042, 1) == 0x08, "START reads as 0"
    assert board.bus.read(0x1040, 1) == 0x04, "device error, not busy"
    board.bus.write(0x1040, 1, 0x04)
    assert board.bus.read(0x1040, 1) == 0
    board.bus.write(0x1042, 1, 0x02)
    assert board.bus.read(0x1040, 1) == 0x10


def test_both_blocks_may_lie_side_by_side_and_reset_removes_them(board: Board) -> None:
    board.configure(0x40, 0x1001)
    board.configure(0x80, 1, 1)
    smbus(board)
    assert (board.bus.read(0x1034, 4), board.bus.read(0x1040, 1)) == (0x7FFFBFFF, 0)
    board.pm.reset()
    assert (board.bus.read(0x1034, 4), board.bus.read(0x1040, 1), board.base) == (0xFFFFFFFF, 0xFF, 0)


@pytest.mark.parametrize("first", [0x40, 0x90])
def test_of_two_overlapping_blocks_the_same_answers_in_whatever_order_they_came(board: Board, first: int) -> None:
    board.configure(0x80, 1, 1)
    board.configure(0xD2, 1, 1)
    board.configure(first, 0x1000)
    board.configure(0xD0 - first, 0x1000)
    board.bus.write(0x1004, 2, 0x0002)  # PM1_CNT of one, SMBHSTADD of the other
    assert board.bus.read(0x1004, 2) == 0x0002
    assert board.pm.state.smbus[4] == 0
