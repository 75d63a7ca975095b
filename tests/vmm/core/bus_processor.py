"""A processor with paging on, a device in memory and on ports, pages that are away, and a log of what was asked.

Linear addresses 0..8 MiB are mapped one to one, for user and supervisor, by tables at PAGE_TABLES; RAM ends at 4 MiB.
The device is memory behind DEVICE, so that an instruction must do to it what it does to RAM.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.vmm.core.processor import CODE, CODE_SEL, RAM_PAGES, Event, Processor, assemble
from vmm._core import ffi, lib
from vmm.memory import PmapState
from vmm.vcpu import Exit, ExitKind

PAGE = 0x1000
DIRECTORY, TABLES = 0x70000, 0x71000
DEVICE, DEVICE_PAGES = 0x500000, 4
EMPTY = 0x600000                                # nothing answers there
PRESENT, WRITABLE, USER, ACCESSED, DIRTY = 1, 2, 4, 0x20, 0x40
PLAIN = PRESENT | WRITABLE | USER
ANSWER_LIMIT = 20_000


@dataclass
class Log:
    """What left run(): (gpa or port, width, data) in order; PPNs of FAULT_PPN with the write flag."""

    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    inputs: list[tuple[int, int, int]] = field(default_factory=list)         # port, width, units
    outputs: list[tuple[int, int, bytes]] = field(default_factory=list)
    faults: list[tuple[int, bool]] = field(default_factory=list)


class BusProcessor(Processor):
    """`run` and `resume` answer every exit that a machine's bus or the VMkernel would."""

    def __init__(self, features: str = "") -> None:
        super().__init__(features)
        self.memory.map_mmio(DEVICE // PAGE, DEVICE_PAGES)
        self.device = bytearray(DEVICE_PAGES * PAGE)
        self.log = Log()
        self.stream = bytearray(n * 7 + 1 & 0xFF for n in range(1 << 16))     # what ports give, in order
        self.taken = 0
        self.kick_with: set[ExitKind] = set()           # kicks that come while such an exit is answered
        self.stops = 0                                  # exits by quantum or kick
        for page in range(2048):
            self.write32(TABLES + 4 * page, page * PAGE | PLAIN)
        for table in range(2):
            self.write32(DIRECTORY + 4 * table, TABLES + table * PAGE | PLAIN)
        self.v.cr3 = DIRECTORY
        self.v.cr0 |= 0x80010000

    # ---- pages ----------------------------------------------------------------------------------------------------

    def map(self, linear: int, entry: int) -> None:
        """One page-table entry, and no stale translation of it."""
        self.write32(TABLES + 4 * (linear // PAGE), entry)
        self.vcpu.engine.flush()

    def entry(self, linear: int) -> int:
        return self.read32(TABLES + 4 * (linear // PAGE))

    def swap_out(self, gpa: int) -> None:
        self.memory.pmap[gpa // PAGE] = int(PmapState.SWAPPED)
        self.vcpu.engine.flush()

    def lines(self, number: int, level: bool) -> None:
        page = ffi.cast("struct interrupts *", self.state_file.address("interrupts"))
        mask = lib.intr_set_line(page, number, int(level))
        if mask:
            self.vcpu.kick(lib.ATTN_INTERRUPT)

    # ---- bytes, wherever they lie ---------------------------------------------------------------------------------

    def store(self, address: int, data: bytes) -> None:
        for at, byte in enumerate(data, address):
            if at < RAM_PAGES * PAGE:
                self.write(at, bytes([byte]))
            else:
                self.device[at - DEVICE] = byte

    def load(self, address: int, length: int) -> bytes:
        return b"".join(
            self.memory.read(at, 1) if at < RAM_PAGES * PAGE else self.device[at - DEVICE : at - DEVICE + 1]
            for at in range(address, address + length)
        )

    # ---- running --------------------------------------------------------------------------------------------------

    def start(self, source: str, bits: int = 32) -> None:
        self.write(CODE, assemble(source, bits))

    def resume(self) -> Event | None:
        self.v.activity = 0
        for _ in range(ANSWER_LIMIT):
            self.last = self.vcpu.run(100_000)
            if self.last.kind in self.kick_with:
                self.vcpu.kick()
            if not self._answered(self.last):
                break
        else:
            raise AssertionError("the instruction never ends")
        return self._event() if self.last.kind is ExitKind.HLT else None

    def _answered(self, exit_: Exit) -> bool:
        if exit_.kind in {ExitKind.QUANTUM, ExitKind.KICK}:
            self.stops += 1
        elif exit_.kind is ExitKind.MMIO:
            self._memory_io(exit_)
        elif exit_.kind is ExitKind.IO:
            self._port_io(exit_)
        elif exit_.kind is ExitKind.FAULT_PPN:
            self.log.faults.append((exit_.address, exit_.write))
            self.memory.pmap[exit_.address] = int(PmapState.PRIVATE)
        else:
            return False
        return True

    def _memory_io(self, exit_: Exit) -> None:
        at = exit_.address - DEVICE
        if exit_.write:
            self.log.writes.append((exit_.address, exit_.width, exit_.data))
            self.device[at : at + exit_.width] = exit_.data.to_bytes(exit_.width, "little")
        else:
            self.log.reads.append((exit_.address, exit_.width))
            self.vcpu.answer(int.from_bytes(self.device[at : at + exit_.width], "little"))

    def _port_io(self, exit_: Exit) -> None:
        size = exit_.count * exit_.width
        if exit_.write:
            data = exit_.payload or exit_.data.to_bytes(exit_.width, "little")
            self.log.outputs.append((exit_.address, exit_.width, data))
            return
        self.log.inputs.append((exit_.address, exit_.width, exit_.count))
        data = bytes(self.stream[self.taken : self.taken + size])
        self.taken += size
        if exit_.count > 1:
            self.vcpu.answer_units(data)
        else:
            self.vcpu.answer(int.from_bytes(data, "little"))

    def user(self) -> None:
        """Ring 3, with ports allowed."""
        self.ring(3)
        self.v.eflags |= 0x3000
        assert self.selector("cs") == CODE_SEL[3]
