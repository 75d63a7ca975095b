"""SeaVGABIOS, unchanged, run by Unicorn on our adapter: a real driver for it.

Ports go to the card's bus, A0000-BFFFF and configuration space to the card, INT 10h to the ROM's own handler.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_HOOK_INTR, UC_MODE_16, Uc
from unicorn.x86_const import (
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_REG_AX,
    UC_X86_REG_BX,
    UC_X86_REG_CS,
    UC_X86_REG_CX,
    UC_X86_REG_DI,
    UC_X86_REG_DX,
    UC_X86_REG_EFLAGS,
    UC_X86_REG_ES,
    UC_X86_REG_IP,
    UC_X86_REG_SP,
    UC_X86_REG_SS,
)

from hw.pci import PciHost, PciHostState
from hw.vga_spec import FRAMEBUFFER_BAR, LEGACY_BYTES, LEGACY_FIRST, SLOT
from tests.hw.vga_card import Card

ROM = Path("/usr/share/seabios/vgabios-vmware.bin")
ROM_AT, ROM_SEGMENT = 0xC0000, 0xC000
FRAMEBUFFER_AT = 0xF0000000
STOP = 0x7000  # a HLT, where every call returns to
BDF = SLOT[1] << 3
LIMIT_INSTRUCTIONS = 20_000_000


def rom_image() -> bytes:
    """Skips without the package; where a missing peer would go unnoticed (CI is set), fails."""
    if ROM.exists():
        return ROM.read_bytes()
    reason = f"{ROM} is missing (Debian package seabios), so no BIOS can drive the adapter"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Bios:
    """The ROM after its initialization; `call` is INT 10h."""

    def __init__(self, card: Card) -> None:
        self.card = card
        host = PciHost(PciHostState())
        host.attach(*SLOT, card.vga)
        card.ports.claim(0xCF8, 8, host, width=4)
        card.vga.config_write(0x14, 4, FRAMEBUFFER_AT)
        card.vga.config_write(0x04, 2, 7)
        self.accesses = 0
        self.cpu = Uc(UC_ARCH_X86, UC_MODE_16)
        self.cpu.mem_map(0, LEGACY_FIRST)
        self.cpu.mmio_map(LEGACY_FIRST, LEGACY_BYTES, self._load, None, self._store, None)
        self.cpu.mem_map(ROM_AT, 0x100000 - ROM_AT)
        self.cpu.mem_write(ROM_AT, rom_image())
        self.cpu.mem_write(STOP, b"\xf4")
        self.cpu.hook_add(UC_HOOK_INSN, self._in, None, 1, 0, UC_X86_INS_IN)
        self.cpu.hook_add(UC_HOOK_INSN, self._out, None, 1, 0, UC_X86_INS_OUT)
        self.cpu.hook_add(UC_HOOK_INTR, self._interrupt)
        self.cpu.reg_write(UC_X86_REG_AX, BDF)
        self._run(ROM_SEGMENT, 3, flags=False)

    def _load(self, cpu: Uc, offset: int, size: int, data: object) -> int:
        self.accesses += 1
        return int.from_bytes(self.card.load(LEGACY_FIRST + offset, size), "little")

    def _store(self, cpu: Uc, offset: int, size: int, value: int, data: object) -> None:
        self.accesses += 1
        self.card.store_at(LEGACY_FIRST + offset, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def _in(self, cpu: Uc, port: int, size: int, data: object) -> int:
        return self.card.inp(port, size)

    def _out(self, cpu: Uc, port: int, size: int, value: int, data: object) -> None:
        self.card.out(port, value & (1 << 8 * size) - 1, size)

    def _interrupt(self, cpu: Uc, number: int, data: object) -> None:
        raise AssertionError(f"the ROM raised interrupt {number:#x}")

    def _run(self, segment: int, offset: int, flags: bool) -> None:
        """A far call, or an interrupt's way in."""
        cpu = self.cpu
        frame = STOP.to_bytes(2, "little") + bytes(2) + (b"\x02\x00" if flags else b"")
        cpu.reg_write(UC_X86_REG_SS, 0)
        cpu.reg_write(UC_X86_REG_SP, 0x6000 - len(frame))
        cpu.mem_write(0x6000 - len(frame), frame)
        cpu.reg_write(UC_X86_REG_EFLAGS, 2)
        cpu.reg_write(UC_X86_REG_CS, segment)
        cpu.emu_start(segment * 16 + offset, STOP, count=LIMIT_INSTRUCTIONS)
        assert cpu.reg_read(UC_X86_REG_CS) * 16 + cpu.reg_read(UC_X86_REG_IP) == STOP

    def call(self, ax: int, bx: int = 0, cx: int = 0, dx: int = 0, di: int = 0) -> int:
        """INT 10h; AX afterwards. ES is 0."""
        for register, value in (
            (UC_X86_REG_AX, ax), (UC_X86_REG_BX, bx), (UC_X86_REG_CX, cx), (UC_X86_REG_DX, dx), (UC_X86_REG_DI, di),
            (UC_X86_REG_ES, 0),
        ):  # fmt: skip
            self.cpu.reg_write(register, value)
        vector = self.cpu.mem_read(4 * 0x10, 4)
        self._run(int.from_bytes(vector[2:], "little"), int.from_bytes(vector[:2], "little"), flags=True)
        return int(self.cpu.reg_read(UC_X86_REG_AX))

    def memory(self, at: int, count: int) -> bytes:
        return bytes(self.cpu.mem_read(at, count))


assert FRAMEBUFFER_BAR == 1, "the BAR that is programmed above"
