"""Every bit of every register bank does what its row says, seen from the bus; generated from the rows.

The model here knows masks only, and nothing of the code that applies them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ringfence.registers import Reg, RegBank
from tests.conformance.device_driver import Bench
from tests.conformance.device_list import DEVICES
from tests.conformance.specimen import Bank, Indexed, Specimen

RANDOM_ACCESSES = 1500
WIDTHS = (1, 2, 4)
BANKS = [(specimen, bank) for specimen in DEVICES for bank in specimen.banks]
every_bank = pytest.mark.parametrize(
    "specimen, bank", BANKS, ids=[f"{specimen.name}-{bank.bank.name}" for specimen, bank in BANKS]
)


class Chip:
    """A device whose bank is reached through the bus."""

    def __init__(self, specimen: Specimen, bank: Bank) -> None:
        self.specimen, self.bank = specimen, bank
        self.bench = Bench(specimen)
        for access in bank.setup:
            self.bench.board.do(access)

    def read(self, offset: int, width: int) -> int:
        """Indexed registers, and those that no access has the width of, are made of bytes."""
        if isinstance(self.bank.window, int) and width in WIDTHS:
            return self.bench.board.ports.read(self.bank.window + offset, width)
        return sum(self._read_byte(offset + index) << 8 * index for index in range(width))

    def write(self, offset: int, width: int, value: int) -> None:
        if isinstance(self.bank.window, int) and width in WIDTHS:
            self.bench.board.ports.write(self.bank.window + offset, width, value)
            return
        for index in range(width):
            self._write_byte(offset + index, value >> 8 * index & 0xFF)

    def _read_byte(self, offset: int) -> int:
        ports, window = self.bench.board.ports, self.bank.window
        if isinstance(window, int):
            return ports.read(window + offset, 1)
        self._select(window, offset)
        return ports.read(window.read, 1)

    def _write_byte(self, offset: int, byte: int) -> None:
        ports, window = self.bench.board.ports, self.bank.window
        if isinstance(window, int):
            ports.write(window + offset, 1, byte)
        else:
            self._select(window, offset)
            ports.write(window.write, 1, byte)

    def _select(self, window: Indexed, offset: int) -> None:
        for access in window.before:
            self.bench.board.do(access)
        self.bench.board.ports.write(window.select, 1, offset)

    def prepare(self, row: Reg, value: int) -> None:
        """The register holds this: put there, or, where only the device knows how, as it was before a write of it."""
        if self.bank.store is not None:
            self.bank.bank.put(self.bank.store(self.bench.state), row.name, value)
        else:
            self.write(row.offset, row.width, value)


def reset_value(bank: Bank, row: Reg) -> int:
    return bank.resets.get(row.name, row.reset)


def rows(bank: Bank) -> Iterator[Reg]:
    return (row for row in bank.bank.rows if row.offset not in bank.elsewhere)


@every_bank
def test_reset_gives_what_the_rows_say(specimen: Specimen, bank: Bank) -> None:
    chip = Chip(specimen, bank)
    source = random.Random(1)
    battery = {"cmos"} & set(specimen.kept)
    for _ in range(0 if battery else 200):
        offset = source.randrange(bank.bank.size)
        if offset not in bank.elsewhere:
            chip.write(offset, 1, source.getrandbits(8))
    chip.bench.device.reset()
    for access in bank.setup:
        chip.bench.board.do(access)
    for row in rows(bank):
        volatile = bank.acts.get(row.name, 0) if bank.store is None else 0
        found, expected = chip.read(row.offset, row.width) & ~volatile, reset_value(bank, row) & ~volatile
        assert found == expected, f"{row.name} is {found:#x} after reset, expected {expected:#x}"


@every_bank
def test_each_bit_does_what_its_mask_says(specimen: Specimen, bank: Bank) -> None:
    chip = Chip(specimen, bank)
    for row in rows(bank):
        acts = bank.acts.get(row.name, 0)
        writable = (row.rw | row.w1c | row.w1s) & ~acts
        fixed = chip.read(row.offset, row.width) & ~(row.rw | row.w1c | row.w1s)
        for bit in (1 << index for index in range(8 * row.width)):
            if bit & acts:
                continue
            for before in (0, writable):
                for written in (0, bit):
                    chip.prepare(row, fixed | before)
                    chip.write(row.offset, row.width, written)
                    found = bool(chip.read(row.offset, row.width) & bit)
                    expected = bool(expected_bits(row, fixed | before, written) & bit)
                    text = f"{row.name} bit {bit:#x}: was {before & bit:#x}, {written:#x} written"
                    assert found == expected, f"{text}: reads {found}"
        chip.prepare(row, fixed | reset_value(bank, row) & writable)


def expected_bits(row: Reg, before: int, written: int) -> int:
    """What a register holds after a write of all of it."""
    stored = written & row.rw
    left = before & row.w1c & ~written
    raised = (before | written) & row.w1s
    return stored | left | raised | before & ~(row.rw | row.w1c | row.w1s)


class Model:
    """The bank's bytes, by the masks alone, one bit at a time."""

    def __init__(self, bank: RegBank) -> None:
        self.bank = bank
        self.bits = [[0] * 8 for _ in range(bank.size)]
        self.behaviour = [["fixed"] * 8 for _ in range(bank.size)]
        for row in bank.rows:
            for kind in ("rw", "w1c", "w1s"):
                for index in range(8 * row.width):
                    if getattr(row, kind) >> index & 1:
                        self.behaviour[row.offset + index // 8][index % 8] = kind

    def load(self, offset: int, byte: int) -> None:
        self.bits[offset] = [byte >> index & 1 for index in range(8)]

    def byte(self, offset: int) -> int:
        return sum(bit << index for index, bit in enumerate(self.bits[offset]))

    def write(self, offset: int, width: int, value: int) -> None:
        for at in range(width):
            if offset + at >= self.bank.size:
                break
            for index in range(8):
                one = value >> 8 * at + index & 1
                kind = self.behaviour[offset + at][index]
                if kind == "rw":
                    self.bits[offset + at][index] = one
                elif kind == "w1c" and one:
                    self.bits[offset + at][index] = 0
                elif kind == "w1s" and one:
                    self.bits[offset + at][index] = 1


PARTIAL = [(specimen, bank) for specimen, bank in BANKS if bank.store is not None and isinstance(bank.window, int)]


@pytest.mark.parametrize(
    "specimen, bank", PARTIAL, ids=[f"{specimen.name}-{bank.bank.name}" for specimen, bank in PARTIAL]
)
def test_partial_wide_and_straddling_accesses(specimen: Specimen, bank: Bank) -> None:
    """Random writes of every width and alignment, over registers' ends too; then every byte is as the masks say."""
    chip, model, source = Chip(specimen, bank), Model(bank.bank), random.Random(2)
    answered = [at for at in range(bank.bank.size) if at not in bank.elsewhere]
    ignored = ignored_bits(bank)
    for at in answered:
        model.load(at, chip.read(at, 1))
    for _ in range(RANDOM_ACCESSES):
        width = source.choice((1, 2, 4))
        offset, value = source.randrange(bank.bank.size - width + 1), source.getrandbits(8 * width)
        if bank.elsewhere & set(range(offset, offset + width)):
            continue
        chip.write(offset, width, value)
        model.write(offset, width, value)
        looked, wide = source.randrange(bank.bank.size - 3), source.choice((1, 2, 4))
        for at in {*range(max(0, offset - 1), min(offset + width + 1, bank.bank.size)), *range(looked, looked + wide)}:
            if at not in bank.elsewhere:
                found, expected = chip.read(at, 1) & ~ignored[at], model.byte(at) & ~ignored[at]
                assert found == expected, f"{bank.bank.name} byte {at:#x} after {value:#x} at {offset:#x}/{width}"
        together = chip.read(looked, wide)
        alone = sum(chip.read(looked + index, 1) << 8 * index for index in range(wide))
        assert together == alone or bank.elsewhere & set(range(looked, looked + wide))


def ignored_bits(bank: Bank) -> list[int]:
    """Bits, by byte, that this test cannot foresee."""
    ignored = [0] * bank.bank.size
    for masks in (bank.acts, bank.driven):
        for name, mask in masks.items():
            row = bank.bank.by_name[name]
            for index in range(row.width):
                ignored[row.offset + index] |= mask >> 8 * index & 0xFF
    return ignored
