"""Every bit of every CSR and BCR does what its row says, by either access width; generated from the rows."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from hw.net.pcnet_spec import BCR, CSR, STOPPED_ONLY
from ringfence.registers import Reg, RegBank
from tests.hw.net.nic_rig import ADDRESS
from tests.hw.net.pcnet_driver import BDP, BDP_32, IENA, RAP, RAP_32, RDP, RDP_32, PcnetRig

CONTROL, SWSTYLE_CSR, SWSTYLE_BCR, UINTCMD = 0, 58, 20, 0x80
ALIASES = {16: 1, 17: 2}  # names of other rows
LAMPS = (4, 5, 6, 7)
LAMP_LIT = 0x8000  # follows from the others
PADR = {12 + index: int.from_bytes(ADDRESS[2 * index : 2 * index + 2], "little") for index in range(3)}


class Path(NamedTuple):
    """How registers are reached: the data register, the address register, the width."""

    data: int
    address: int
    width: int


PATHS = {
    ("csr", 2): Path(RDP, RAP, 2), ("csr", 4): Path(RDP_32, RAP_32, 4),
    ("bcr", 2): Path(BDP, RAP, 2), ("bcr", 4): Path(BDP_32, RAP_32, 4),
}  # fmt: skip


class Chip:
    """One bank of registers, by words or double words. The link is down, so no lamp is lit."""

    def __init__(self, bank: RegBank, width: int) -> None:
        self.rig = PcnetRig()
        self.rig.nic.set_link(False)
        self.path = PATHS[bank.name, width]
        if width == 4:
            self.rig.put(RDP, 0, 4)

    def read(self, number: int) -> int:
        self.rig.put(self.path.address, number, self.path.width)
        return self.rig.get(self.path.data, self.path.width)

    def write(self, number: int, value: int) -> None:
        self.rig.put(self.path.address, number, self.path.width)
        self.rig.put(self.path.data, value, self.path.width)


every_bank = pytest.mark.parametrize("bank", [CSR, BCR], ids=["csr", "bcr"])
every_width = pytest.mark.parametrize("width", [2, 4], ids=["words", "double words"])


def rows(bank: RegBank) -> list[Reg]:
    """Those whose bits only keep what they are told. CSR0 and the style have tests of their own."""
    special = {CONTROL} if bank is CSR else {SWSTYLE_BCR}
    return [row for row in bank.rows if row.offset // 2 not in special]


def reset_value(bank: RegBank, number: int, width: int) -> int:
    row = next((row for row in bank.rows if row.offset == 2 * number), None)
    if bank is CSR and number in PADR:
        return PADR[number]
    if bank is CSR and number == SWSTYLE_CSR:
        return 0x0200
    if bank is CSR and number == 88 and width == 4:
        return 0x02621003
    if bank is BCR and number == 18 and width == 4:
        return 0x9081
    return 0 if row is None else row.reset


@every_bank
@every_width
def test_reset_values(bank: RegBank, width: int) -> None:
    chip = Chip(bank, width)
    for number in range(128):
        assert chip.read(number) == reset_value(bank, number, width), f"{bank.name} {number}"


@every_bank
def test_reset_forgets_what_was_written(bank: RegBank) -> None:
    chip, source = Chip(bank, 2), random.Random(1)
    for _ in range(500):
        chip.write(source.randrange(1, 128), source.getrandbits(16))
    chip.rig.nic.reset()
    chip.rig.nic.config_write(0x10, 4, 0x1400)
    chip.rig.nic.config_write(0x04, 2, 7)
    for number in range(128):
        assert chip.read(number) == reset_value(bank, number, 2), f"{bank.name} {number}"


def expected(row: Reg, before: int, written: int) -> int:
    stored = written & row.rw
    left = before & row.w1c & ~written
    return stored | left | before & ~(row.rw | row.w1c)


@every_bank
@every_width
def test_each_bit_does_what_its_mask_says(bank: RegBank, width: int) -> None:
    chip = Chip(bank, width)
    for row in rows(bank):
        number = row.offset // 2
        if width == 4 and (bank, number) in ((CSR, 88), (BCR, 18)):
            continue
        for bit in (1 << index for index in range(16)):
            for before in (0, row.rw | row.w1c):
                fixed = reset_value(bank, number, width) & ~(row.rw | row.w1c)
                bank.put(getattr(chip.rig.nic.state.pcnet, bank.name), row.name, fixed | before)
                for written in (0, bit):
                    now = chip.read(number)
                    chip.write(number, written)
                    found = chip.read(number)
                    text = f"{row.name}: {written:#x} written over {now:#x} reads {found:#x}"
                    assert found == expected(row, now, written), text
        bank.put(getattr(chip.rig.nic.state.pcnet, bank.name), row.name, row.reset)


@every_bank
def test_registers_that_there_are_not_read_zero(bank: RegBank) -> None:
    chip = Chip(bank, 2)
    there = {row.offset // 2 for row in bank.rows} | ({*ALIASES, SWSTYLE_CSR} if bank is CSR else set())
    for number in set(range(128)) - there:
        chip.write(number, 0xFFFF)
        assert chip.read(number) == 0, f"{bank.name} {number}"


@pytest.mark.parametrize("row", [row for row in CSR.rows if row.offset // 2 in STOPPED_ONLY], ids=lambda row: row.name)
def test_what_describes_the_rings_is_locked_while_it_runs(row: Reg) -> None:
    chip = Chip(CSR, 2)
    chip.rig.start()
    number = row.offset // 2
    before = chip.read(number)
    chip.write(number, ~before & 0xFFFF)
    assert chip.read(number) == before


@pytest.mark.parametrize("row", [row for row in CSR.rows if row.rw and row.offset // 2 not in STOPPED_ONLY],
                         ids=lambda row: row.name)  # fmt: skip
def test_the_others_are_not(row: Reg) -> None:
    chip = Chip(CSR, 2)
    chip.rig.start()
    number = row.offset // 2
    chip.write(number, row.rw & ~UINTCMD)
    assert chip.read(number) & row.rw & ~UINTCMD == row.rw & ~UINTCMD or number == CONTROL


def test_the_status_registers_bits() -> None:
    """Causes are cleared by writing one, IENA is stored, four bits act, the others are read-only."""
    row = CSR.by_name["STATUS"]
    chip = Chip(CSR, 2)
    store = chip.rig.nic.state.pcnet.csr
    chip.rig.start(run=0)
    for bit in (1 << index for index in range(16)):
        if bit & row.w1s:
            continue
        for before in (0, row.w1c):
            CSR.put(store, "STATUS", 1 | before)
            chip.write(CONTROL, bit)
            found = CSR.get(store, "STATUS")
            assert found == (1 | before & ~bit | bit & IENA), f"{bit:#x} written over {before:#x}"
