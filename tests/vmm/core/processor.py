"""One interpreted processor over 4 MiB of RAM, with tables laid out so that a test can run a few instructions.

Every vector has a handler that halts: `run` returns when one is reached, or when the code under test halts at CPL 0.
Linear addresses are physical unless the test turns paging on. Addresses and selectors are the constants below.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineMap
from vmm.engines.interp import Interp
from vmm.layout_spec import InterruptPage, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import SEGMENT_NAMES, ControlMapping, Exit, ExitKind, Vcpu

RAM_PAGES = 1024
GDT, IDT, LDT, TSS, TSS2, HANDLERS, CODE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x8000, 0x10000
HANDLER_BYTES = 16
STACK_TOPS = (0x20000, 0x30000, 0x40000, 0x50000)     # by ring
SCRATCH = 0x60000
CODE_SEL = (0x08, 0x19, 0x2A, 0x3B)                   # by ring, RPL included
DATA_SEL = (0x10, 0x21, 0x32, 0x43)
TSS_SEL, TSS2_SEL, LDT_SEL, FREE = 0x48, 0x50, 0x58, 0x60     # FREE and up are the test's own
TSS_LIMIT = 0x67

CODE32, DATA32, P, S, G, DB = 0x9B, 0x93, 0x80, 0x10, 0x8000, 0x4000
FLAT = G | DB
TSS32_AVAIL, TSS32_BUSY, TSS16_AVAIL, LDT_TYPE = 0x89, 0x8B, 0x81, 0x82
CALL32, CALL16, TASK_GATE, INT32, TRAP32, INT16 = 0x8C, 0x84, 0x85, 0x8E, 0x8F, 0x86
WITH_ERROR = frozenset({8, 10, 11, 12, 13, 14, 17})
CF, TF, IF, IOPL3, NT, RF, VM = 1, 0x100, 0x200, 0x3000, 0x4000, 0x10000, 0x20000
AC, VIF, VIP = 0x40000, 0x80000, 0x100000


@functools.cache
def assemble(source: str, bits: int = 32) -> bytes:
    """Machine code of GNU assembler source, to run at CODE; 16-bit code is for a CS whose base is CODE."""
    with tempfile.TemporaryDirectory() as folder:
        obj, binary = Path(folder) / "o", Path(folder) / "b"
        text = f".code{bits}\n{source}\n"
        subprocess.run(["as", "--32", "-o", obj, "-"], input=text, text=True, check=True)
        where = hex(CODE if bits == 32 else 0)
        link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", where, "-e", "0", "-o", binary, obj]
        subprocess.run(link, check=True, capture_output=True)
        return binary.read_bytes()


def descriptor(base: int, limit: int, access: int, flags: int = 0) -> int:
    """A segment or system descriptor; `limit` is the 20-bit field, `flags` holds G and DB at bits 15 and 14."""
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | (flags >> 12) << 52
        | (base >> 24) << 56
    )  # fmt: skip


def gate(selector: int, offset: int, access: int, count: int = 0) -> int:
    return offset & 0xFFFF | selector << 16 | count << 32 | access << 40 | (offset >> 16) << 48


def with_dpl(access: int, dpl: int) -> int:
    return access & ~0x60 | dpl << 5


@dataclass(frozen=True)
class Event:
    """A delivered event: what its handler found on the stack."""

    vector: int
    error: int | None
    eip: int
    cs: int
    eflags: int


def give_back(*parts: Interp | ControlMapping | StateFile | GuestMemory) -> None:
    """Close what a processor was made of."""
    for part in parts:
        part.close()


class Processor:
    """A vCPU in flat protected mode at CPL 0, about to run what `code` was given."""

    def __init__(self, features: str = "") -> None:
        self.memory = GuestMemory(RAM_PAGES)
        self.memory.map_ram(0, RAM_PAGES)
        self.state_file = StateFile.create({"vcpu0": VcpuState, "interrupts": InterruptPage})
        self.control = ControlMapping(0)
        interrupts = self.state_file.address("interrupts")
        lib.intr_reset(ffi.cast("struct interrupts *", interrupts), 1)
        lib.vcpu_reset(ffi.cast("struct vcpu *", self.state_file.address("vcpu0")), 0, 0x683)
        where = EngineMap(
            ram=_address(self.memory.ram.bytes), ram_bytes=RAM_PAGES * PAGE_SIZE,
            dev=_address(self.memory.dev.bytes), dev_bytes=self.memory.dev.size,
            pages=_address(self.memory.pages.bytes), pages_bytes=self.memory.pages.size,
            interrupts=interrupts, vcpus=(self.state_file.address("vcpu0"),), controls=(self.control.address,),
        )  # fmt: skip
        leaves = cpu_model(features)
        model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
        for index, leaf in enumerate(leaves):
            model.leaves[index] = tuple(leaf)
        state = self.state_file["vcpu0"]
        assert isinstance(state, VcpuState)
        self.v = state
        self.vcpu = Vcpu(0, state, self.control.page, Interp(where, 0, model), self.memory)
        self._tables()
        self.ring(0)
        self.last: Exit | None = None
        # five descriptors each, and a test run makes hundreds
        weakref.finalize(self, give_back, self.vcpu.engine, self.control, self.state_file, self.memory)

    # ---- set-up ---------------------------------------------------------------------------------------------------

    def _tables(self) -> None:
        for ring in range(4):
            self.set_descriptor(CODE_SEL[ring], descriptor(0, 0xFFFFF, with_dpl(CODE32, ring), FLAT))
            self.set_descriptor(DATA_SEL[ring], descriptor(0, 0xFFFFF, with_dpl(DATA32, ring), FLAT))
        self.set_descriptor(TSS_SEL, descriptor(TSS, TSS_LIMIT, TSS32_BUSY))
        self.set_descriptor(TSS2_SEL, descriptor(TSS2, TSS_LIMIT, TSS32_AVAIL))
        self.set_descriptor(LDT_SEL, descriptor(LDT, 0xFF, LDT_TYPE))
        for vector in range(256):
            self.set_gate(vector, gate(CODE_SEL[0], HANDLERS + vector * HANDLER_BYTES, with_dpl(INT32, 3)))
            self.write(HANDLERS + vector * HANDLER_BYTES, b"\xf4")
        for ring in range(3):
            self.write32(TSS + 4 + 8 * ring, STACK_TOPS[ring])
            self.write32(TSS + 8 + 8 * ring, DATA_SEL[ring])
        self.write16(TSS + 0x66, TSS_LIMIT + 1)
        v = self.v
        v.gdtr.base, v.gdtr.limit, v.idtr.base, v.idtr.limit = GDT, 0xFFF, IDT, 0x7FF
        v.cr0 = v.cr0 & ~0x60000000 | 0x11
        self.hidden("tr", TSS_SEL, TSS, TSS_LIMIT, TSS32_BUSY)
        self.hidden("ldtr", LDT_SEL, LDT, 0xFF, LDT_TYPE)

    def ring(self, cpl: int) -> None:
        """Flat 32-bit segments of this ring, its stack, interrupts off."""
        self.hidden("cs", CODE_SEL[cpl], 0, 0xFFFFFFFF, with_dpl(CODE32, cpl) | FLAT)
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.hidden(name, DATA_SEL[cpl], 0, 0xFFFFFFFF, with_dpl(DATA32, cpl) | FLAT)
        self.v.cpl, self.v.eip, self.v.eflags = cpl, CODE, 2
        self.v.r[4] = STACK_TOPS[cpl] - 0x1000

    def real(self) -> None:
        """Real mode, all segments at base 0 but CS, whose base is CODE; SP 8000h; the vector table is empty."""
        self.v.cr0 &= ~1
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.hidden(name, 0, 0, 0xFFFF, 0x93)
        self.hidden("cs", CODE >> 4, CODE, 0xFFFF, 0x93)
        self.v.idtr.base, self.v.idtr.limit = 0, 0x3FF
        self.v.cpl, self.v.eip, self.v.eflags, self.v.r[4] = 0, 0, 2, 0x8000

    def v86(self, eflags: int) -> None:
        """Virtual-8086 mode, CS at CODE, other segments at 5000h; SP 1000h."""
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.hidden(name, 0x5000, 0x50000, 0xFFFF, 0xF3)
        self.hidden("cs", CODE >> 4, CODE, 0xFFFF, 0xF3)
        self.v.cpl, self.v.eip, self.v.eflags, self.v.r[4] = 3, 0, VM | 2 | eflags, 0x1000

    def hidden(self, name: str, selector: int, base: int, limit: int, attr: int) -> None:
        segment = self.v.seg[SEGMENT_NAMES.index(name)]
        segment.selector, segment.base, segment.limit, segment.attr = selector, base, limit, attr

    def set_descriptor(self, selector: int, value: int) -> None:
        self.write((LDT if selector & 4 else GDT) + (selector & ~7), value.to_bytes(8, "little"))

    def set_gate(self, vector: int, value: int) -> None:
        self.write(IDT + vector * 8, value.to_bytes(8, "little"))

    # ---- memory ---------------------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)

    def write16(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(2, "little"))

    def write32(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(4, "little"))

    def read16(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")

    def read32(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 4), "little")

    def words(self, address: int, count: int, size: int = 4) -> list[int]:
        data = self.memory.read(address, count * size)
        return [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(count)]

    # ---- running --------------------------------------------------------------------------------------------------

    def run(self, source: str, bits: int = 32) -> Event | None:
        """Run the source at CODE until the processor halts. The event whose handler halted it, or None."""
        self.write(CODE, assemble(source, bits))
        return self.resume()

    def resume(self) -> Event | None:
        """Go on until a halt. A shutdown or any other exit is in `last`."""
        self.v.activity = 0
        for _ in range(1000):
            self.last = self.vcpu.run(100_000)
            if self.last.kind not in {ExitKind.QUANTUM, ExitKind.KICK}:
                break
        if self.last is None or self.last.kind != ExitKind.HLT:
            return None
        return self._event()

    def _event(self) -> Event | None:
        at = self.v.eip - 1 - HANDLERS     # HLT has retired
        if not 0 <= at < 256 * HANDLER_BYTES or at % HANDLER_BYTES or self.v.cr0 & 1 == 0:
            return None
        vector, sp = at // HANDLER_BYTES, self.v.r[4]
        error = None
        if vector in WITH_ERROR:
            error, sp = self.read32(sp), sp + 4
        return Event(vector, error, *self.words(sp, 3))

    def selector(self, name: str) -> int:
        return int(self.v.seg[SEGMENT_NAMES.index(name)].selector)

    def unusable(self, name: str) -> bool:
        return bool(self.v.seg[SEGMENT_NAMES.index(name)].attr & lib.SEG_UNUSABLE)


def _address(mapping: object) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))  # type: ignore[arg-type]
