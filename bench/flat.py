"""Runs the flat image of the workloads in Unicorn: the processor model alone, no devices, no paging, no interrupts."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.transcript import RunFailed, Work
from guests.builder import build_flat

if TYPE_CHECKING:
    import unicorn

HEADER = struct.Struct("<8s4I")  # magic, load address, end, count, address of the table: guests/compute/flat.c
WORKLOAD = struct.Struct("<16s4I")  # name, function, rounds, operations in a round, checksum
MAGIC = b"RFFLAT01"
USUAL_SCALE = 100
PAGE = 4096
STACK, STACK_BYTES = 0x00200000, 0x10000
RETURN = STACK + STACK_BYTES - PAGE  # an address that nothing else executes: where a workload returns to
CR4_OSFXSR = 1 << 9


@dataclass(frozen=True, slots=True)
class FlatWorkload:
    """A row of the image's table."""

    function: int
    rounds: int
    ops_per_round: int


def read_image(image: bytes) -> tuple[int, int, dict[str, FlatWorkload]]:
    """(load address, end, workloads) of a flat image."""
    magic, load, end, count, table = HEADER.unpack_from(image)
    assert magic == MAGIC
    rows = [WORKLOAD.unpack_from(image, table - load + WORKLOAD.size * i) for i in range(count)]
    return load, end, {row[0].rstrip(b"\0").decode(): FlatWorkload(*row[1:4]) for row in rows}


class Unicorn:
    """The image in one emulator, kept: what it translated once it need not translate again."""

    name = "Unicorn"
    clock = "the host's clock around the call"

    def __init__(self) -> None:
        import unicorn  # noqa: PLC0415 -- only where it is installed
        from unicorn import x86_const  # noqa: PLC0415

        self._failure = unicorn.UcError
        image = build_flat("compute").read_bytes()
        load, end, self.workloads = read_image(image)
        self._registers = x86_const
        self._emulator: unicorn.Uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self._emulator.mem_map(load & -PAGE, (end - (load & -PAGE) + PAGE - 1) & -PAGE)
        self._emulator.mem_map(STACK, STACK_BYTES)
        self._emulator.mem_write(load, image)
        cr4 = self._emulator.reg_read(x86_const.UC_X86_REG_CR4)
        self._emulator.reg_write(x86_const.UC_X86_REG_CR4, cr4 | CR4_OSFXSR)

    def run(self, name: str, scale: int) -> Work:
        """One workload, its rounds counted as the guest counts them."""
        workload = self.workloads[name]
        rounds = workload.rounds * scale // USUAL_SCALE or 1
        started = time.perf_counter_ns()
        checksum = self._call(workload.function, rounds)
        ns = time.perf_counter_ns() - started
        return Work(name, checksum, rounds * workload.ops_per_round, ns, ns)

    def _call(self, function: int, rounds: int) -> int:
        """The function's result. Raises RunFailed."""
        esp = RETURN - 256
        self._emulator.mem_write(esp, struct.pack("<2I", RETURN, rounds))
        self._emulator.reg_write(self._registers.UC_X86_REG_ESP, esp)
        try:
            self._emulator.emu_start(function, RETURN)
        except self._failure as error:
            raise RunFailed(f"Unicorn: {error}") from error
        return int(self._emulator.reg_read(self._registers.UC_X86_REG_EAX))
