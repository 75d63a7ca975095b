"""A small machine that runs programs in rings 1 to 3 with paging on, and tells everything that can be seen of one.

    physical            linear              what
    0001000h..000BFFFh  KERNEL + the same   GDT IDT LDT TSS, kernel (2), parameters, log (2), stack (2); supervisor
    0010000h..0018FFFh  TABLES_SEEN         page tables: user, read-only; again writable above, the data region's own
    0020000h..0023FFFh  CODE_BASE           code; its first page once more behind it
    0030000h..003FFFFh  DATA_BASE           data: each program says how each page is mapped

The kernel is native/ring3_kernel.S. A timer interrupts at a rate of kilohertz and drops all translations; nothing that
is compared may show it. Segments are harness.py's LDT in a GDT with other selectors than a Linux host's.
"""

from __future__ import annotations

import ctypes
import struct
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from tests.conformance import harness
from tests.conformance.harness import CODE_BASE, DATA_BASE, NX, USER_CODE, USER_DATA, descriptor
from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.engines.named import engine_named
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage, Segment, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import ControlMapping, Exit, ExitKind, Vcpu

RAM_PAGES = 0x40
KERNEL, TABLES_SEEN, TABLES_WRITABLE = 0xC0000000, 0x30000000, 0x30010000
GDT_AT, IDT_AT, LDT_AT, TSS_AT = 0x1000, 0x2000, 0x3000, 0x4000
KERNEL_AT, PARAMETERS_AT, LOG_AT, STACK_AT = 0x5000, 0x7000, 0x8000, 0xA000
STACK_END = 0xC000
ROOT_AT, TABLES_AT, TABLE_PAGES = 0x10000, 0x15000, 9  # CR3's page, four directories with PAE, then four tables
CODE_AT, CODE_PAGES, DATA_AT, DATA_PAGES = 0x20000, 4, 0x30000, 16
CODE_TABLE, DATA_TABLE, SEEN_TABLE, KERNEL_TABLE = range(4)

P, W, U, A, D = 1, 2, 4, 0x20, 0x40
KERNEL_CS, KERNEL_DS, TSS_SELECTOR, LDT_SELECTOR = 0x60, 0x68, 0xA0, 0xA8
FLAT_CODE, FLAT_DATA = (0, 0x81, 0x92, 0x73), (0, 0x89, 0x9A, 0x7B)  # by ring
GDT_ENTRIES = 24
DPL3_VECTORS = frozenset({3, 4, 0x80})
CR0, CR0_TS, CR0_WP, CR0_AM = 0x80050033, 8, 1 << 16, 1 << 18
CR4, CR4_TSD, CR4_PAE = 0x600, 4, 0x20
ENDED, ENDED_BY_KERNEL, KERNEL_FAULTED = 0xF4, 0xF5, 0xF6
OPEN_PORTS = (0x80, ENDED)  # by the I/O bitmap
ANSWER = 0x5A5A5A5A  # what every other port reads as
EIP_BIAS_AT, PIECE_TABLE_AT, MEND_TABLE_AT, LOG_COUNT_AT = 0x50, 0x80, 0x480, 0x5C
PIECES_MAX, MENDS_MAX = 128, 64
LOG_ENTRY = struct.Struct("<17I")
LOG_FIELDS = (
    "vector", "error", "cr2", "eip", "cs", "eflags", "esp", "ss", "eax", "ecx", "edx", "ebx", "ebp", "esi", "edi",
    "es:ds", "fs:gs",
)  # fmt: skip
QUANTUM_US, TSC_HZ = 20_000, 1_000_000_000
ENDLESS_S = 1.0  # a program that runs longer is not compared


@dataclass(slots=True)
class Program:
    """One program with the machine it starts in. `pieces` are (first, end) addresses; a fault goes on with the next."""

    seed: int
    ring: int = 3
    pae: bool = False
    wide: bool = True  # 32-bit code
    code: bytearray = field(default_factory=lambda: bytearray(b"\xf4" * (CODE_PAGES * PAGE_SIZE)))
    pieces: list[tuple[int, int]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # indexes into pieces where one may cut
    code_pages: list[int] = field(default_factory=lambda: [P | W | U] * (CODE_PAGES + 1))
    data_pages: list[tuple[int, int]] = field(default_factory=lambda: [(i, P | W | U) for i in range(DATA_PAGES)])
    mends: dict[int, int] = field(default_factory=dict)  # linear page: bits that the first fault sets
    data: bytes = b""
    r: list[int] = field(default_factory=lambda: [0] * 8)
    sel: list[int] = field(default_factory=list)  # ES CS SS DS FS GS
    eflags: int = 0x202
    fx: bytes = b""
    cr0: int = CR0
    cr4: int = CR4
    sysenter: bool = False

    @property
    def bias(self) -> int:
        return CODE_BASE if self.wide else 0

    def prefix(self, count: int) -> Program:
        """The same with only the first `count` parts."""
        if count >= len(self.starts) - 1:
            return self
        at = self.pieces[self.starts[count]][0]
        code = bytearray(self.code)
        code[at - self.bias : at - self.bias + len(END)] = END
        cut = [*self.pieces[: self.starts[count]], (at, at + len(END))]
        values = {name: getattr(self, name) for name in self.__slots__}
        return Program(**(values | {"code": code, "pieces": cut, "starts": self.starts[: count + 1]}))


END = bytes([0xE6, ENDED])  # OUT: an exit in the program's own ring


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An exception as the kernel saw it; the words of LOG_FIELDS."""

    words: tuple[int, ...]

    def __getitem__(self, name: str) -> int:
        return self.words[LOG_FIELDS.index(name)]

    def __str__(self) -> str:
        return " ".join(f"{name} {value:x}" for name, value in zip(LOG_FIELDS, self.words, strict=True))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and all that it left."""

    end: str
    state: bytes
    memory: bytes
    log: list[LogEntry]

    @property
    def is_endless(self) -> bool:
        return self.end == "endless"


# ---- memory as a program finds it ------------------------------------------------------------------------------------


def selector(chosen: int, ring: int) -> int:
    """harness.py's flat selectors stand for those of the ring; all others are the LDT's."""
    return {USER_CODE: FLAT_CODE[ring], USER_DATA: FLAT_DATA[ring]}.get(chosen, chosen)


GDT = {KERNEL_CS: descriptor(0, 0xFFFFF, 0x9B, 0xC), KERNEL_DS: descriptor(0, 0xFFFFF, 0x93, 0xC)}
for _ring in (1, 2, 3):
    GDT[FLAT_CODE[_ring] & ~3] = descriptor(0, 0xFFFFF, 0x9A | _ring << 5, 0xC)
    GDT[FLAT_DATA[_ring] & ~3] = descriptor(0, 0xFFFFF, 0x92 | _ring << 5, 0xC)
GDT[TSS_SELECTOR] = descriptor(KERNEL + TSS_AT, 0x68 + 0x20, 0x8B, 0)
GDT[LDT_SELECTOR] = descriptor(KERNEL + LDT_AT, len(harness.LDT) * 8 - 1, 0x82, 0)

KERNEL_FLAGS = (
    "-m32", "-nostdlib", "-static", "-no-pie", f"-Wl,-Ttext={KERNEL + KERNEL_AT:#x},--oformat=binary,--build-id=none",
)  # fmt: skip


@cache
def kernel() -> bytes:
    return harness.build("ring3_kernel.S", KERNEL_FLAGS).read_bytes()


class Entries(NamedTuple):
    """The words at the head of the kernel."""

    launch: int
    boot: int
    sysenter: int
    timer: int
    stubs: int


def entries() -> Entries:
    return Entries(*struct.unpack_from("<5I", kernel()))


@cache
def base_image() -> bytes:
    """Physical memory but for what a program says."""
    image = bytearray(RAM_PAGES * PAGE_SIZE)
    for where, value in GDT.items():
        struct.pack_into("<Q", image, GDT_AT + where, value)
    for index, entry in enumerate(harness.LDT):  # never loaded, so not accessed
        struct.pack_into("<Q", image, LDT_AT + index * 8, entry.descriptor() & ~(1 << 40))
    at = entries()
    for vector in range(0x82):
        dpl = 3 if vector in DPL3_VECTORS else 0
        offset = at.timer if vector == 0x20 else at.stubs + vector * 16
        if vector < 0x22 or dpl:
            gate = offset & 0xFFFF | KERNEL_CS << 16 | (0x8E | dpl << 5) << 40 | offset >> 16 << 48
            struct.pack_into("<Q", image, IDT_AT + vector * 8, gate)
    struct.pack_into("<II", image, TSS_AT + 4, KERNEL + STACK_END, KERNEL_DS)
    struct.pack_into("<H", image, TSS_AT + 0x66, 0x68)
    image[TSS_AT + 0x68 : TSS_AT + 0x68 + 0x21] = b"\xff" * 0x21
    for port in OPEN_PORTS:
        image[TSS_AT + 0x68 + port // 8] &= ~(1 << port % 8)
    image[KERNEL_AT : KERNEL_AT + len(kernel())] = kernel()
    return bytes(image)


def table_at(pae: bool, table: int, page: int) -> int:
    """Physical address of a page-table entry."""
    return TABLES_AT + table * PAGE_SIZE + page * (8 if pae else 4)


def page_tables(program: Program) -> dict[int, int]:
    """Every entry: physical address to value."""
    pae, found = program.pae, {}
    regions = ((CODE_BASE, CODE_TABLE), (DATA_BASE, DATA_TABLE), (TABLES_SEEN, SEEN_TABLE), (KERNEL, KERNEL_TABLE))
    for linear, table in regions:
        directory = ROOT_AT + PAGE_SIZE * (1 + (linear >> 30)) + (linear >> 21 & 511) * 8 if pae else (
            ROOT_AT + (linear >> 22) * 4)  # fmt: skip
        found[directory] = TABLES_AT + table * PAGE_SIZE | P | W | U | (A if table == KERNEL_TABLE else 0)
    if pae:
        for index in range(4):
            found[ROOT_AT + index * 8] = ROOT_AT + (index + 1) * PAGE_SIZE | P
    for page, bits in enumerate(program.code_pages):
        found[table_at(pae, CODE_TABLE, page)] = CODE_AT + page % CODE_PAGES * PAGE_SIZE | bits
    for page, (frame, bits) in enumerate(program.data_pages):
        found[table_at(pae, DATA_TABLE, page)] = DATA_AT + frame * PAGE_SIZE | bits | (NX if pae else 0)
    for page in range(TABLE_PAGES):
        found[table_at(pae, SEEN_TABLE, page)] = ROOT_AT + page * PAGE_SIZE | P | U
    found[table_at(pae, SEEN_TABLE, 16)] = TABLES_AT + DATA_TABLE * PAGE_SIZE | P | W | U
    for page in range(STACK_END >> 12):
        found[table_at(pae, KERNEL_TABLE, page)] = page << 12 | P | W | A | D
    for page in range(TABLE_PAGES):
        found[table_at(pae, KERNEL_TABLE, (ROOT_AT >> 12) + page)] = ROOT_AT + page * PAGE_SIZE | P | W | A | D
    return found


def entry_linear(pae: bool, linear: int) -> int:
    """Where the kernel sees the page-table entry of a page of code or data."""
    table, base = (DATA_TABLE, DATA_BASE) if linear >= DATA_BASE else (CODE_TABLE, CODE_BASE)
    return KERNEL + table_at(pae, table, linear - base >> 12)


def image_of(program: Program) -> bytearray:
    image = bytearray(base_image())
    size = "<Q" if program.pae else "<I"
    for where, value in page_tables(program).items():
        struct.pack_into(size, image, where, value)
    image[CODE_AT : CODE_AT + len(program.code)] = program.code
    image[DATA_AT : DATA_AT + len(program.data)] = program.data
    es, cs, ss, ds, fs, gs = program.sel
    r = program.r
    frame = (gs, fs, es, ds, r[7], r[6], r[5], 0, r[3], r[2], r[1], r[0], program.pieces[0][0], cs, program.eflags)
    struct.pack_into("<17I", image, PARAMETERS_AT, *frame, r[4], ss)
    counts = program.bias, len(program.pieces), 0, 0, len(program.mends)
    assert counts[1] <= PIECES_MAX and counts[4] <= MENDS_MAX
    struct.pack_into("<5I", image, PARAMETERS_AT + EIP_BIAS_AT, *counts)
    for index, piece in enumerate(program.pieces):
        struct.pack_into("<2I", image, PARAMETERS_AT + PIECE_TABLE_AT + index * 8, *piece)
    for index, (linear, bits) in enumerate(program.mends.items()):
        row = linear, entry_linear(program.pae, linear), bits
        struct.pack_into("<3I", image, PARAMETERS_AT + MEND_TABLE_AT + index * 12, *row)
    return image


# ---- the machine -----------------------------------------------------------------------------------------------------


class Ring3Machine:
    """One vCPU on one engine; any number of programs, one after another."""

    def __init__(self, engine: str) -> None:
        self.memory = GuestMemory(RAM_PAGES)
        self.memory.map_ram(0, RAM_PAGES)
        self.file = StateFile.create({"vcpu0": VcpuState, "interrupts": InterruptPage})
        self.control = ControlMapping(0)
        page = self.file["interrupts"]
        assert isinstance(page, InterruptPage)
        self.interrupts = Interrupts(page)
        self.interrupts.power_on(1, TSC_HZ)
        leaves = cpu_model("")
        model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
        for index, leaf in enumerate(leaves):
            model.leaves[index] = tuple(leaf)
        state: Any = self.file["vcpu0"]
        lib.vcpu_reset(ffi.cast("struct vcpu *", self.file.address("vcpu0")), 0, 0x683)
        self._reset = bytes(state)
        core = engine_named(engine)(self._map(), 0, model)
        self.vcpu = Vcpu(0, state, self.control.page, core, self.memory)
        self.interrupts.virtual_wire()
        self._boot()

    def close(self) -> None:
        self.vcpu.engine.close()
        for part in (self.control, self.file, self.memory):
            part.close()

    def _map(self) -> EngineMap:
        memory, file, control = self.memory, self.file, self.control
        files = EngineFiles(
            memory.ram.fd, memory.dev.fd, memory.pages.fd, file.fd, file.size, file.offsets["interrupts"],
            (file.offsets["vcpu0"],), (control.fd,), control.size,
        )  # fmt: skip
        return EngineMap(
            ram=harness.address(memory.ram.bytes), ram_bytes=memory.ram.size, dev=harness.address(memory.dev.bytes),
            dev_bytes=memory.dev.size, pages=harness.address(memory.pages.bytes), pages_bytes=memory.pages.size,
            interrupts=file.address("interrupts"), vcpus=(file.address("vcpu0"),), controls=(control.address,),
            files=files,
        )  # fmt: skip

    def _boot(self) -> None:
        """The interrupt controllers and the timer, which go on over all programs."""
        self._load(Program(0, sel=[0, FLAT_CODE[3], FLAT_DATA[3], 0, 0, 0], pieces=[(CODE_BASE, CODE_BASE + 1)]))
        self.vcpu.state.eip = entries().boot
        self.interrupts.resume()
        end = self._until_end()
        self.vcpu.engine.rest()
        self.interrupts.stun()
        assert end == f"port {ENDED_BY_KERNEL:#x}", end

    def _load(self, program: Program) -> None:
        self.memory.write(0, image_of(program))
        state = self.vcpu.state
        ctypes.memmove(ctypes.addressof(state), self._reset, len(self._reset))
        state.cpl, state.cr0, state.cr3, state.cr4, state.efer = 0, program.cr0, ROOT_AT, program.cr4, 0
        if program.pae:
            state.cr4 |= CR4_PAE
            state.efer = 1 << 11
            for index in range(4):
                state.pdpte[index] = ROOT_AT + (index + 1) * PAGE_SIZE | P
        state.gdtr.base, state.gdtr.limit = KERNEL + GDT_AT, GDT_ENTRIES * 8 - 1
        state.idtr.base, state.idtr.limit = KERNEL + IDT_AT, 0x82 * 8 - 1
        for index in range(6):
            chosen = KERNEL_CS if index == lib.CS else KERNEL_DS
            state.seg[index] = harness.hidden(GDT[chosen])
            state.seg[index].selector = chosen
        state.seg[lib.LDTR] = Segment(LDT_SELECTOR, KERNEL + LDT_AT, len(harness.LDT) * 8 - 1, 0x82)
        state.seg[lib.TR] = Segment(TSS_SELECTOR, KERNEL + TSS_AT, 0x68 + 0x20, 0x8B)
        state.eip, state.eflags = entries().launch, 2
        state.r[lib.ESP] = KERNEL + PARAMETERS_AT
        if program.sysenter:
            state.msr_sysenter_cs, state.msr_sysenter_eip = KERNEL_CS, entries().sysenter
            state.msr_sysenter_esp = KERNEL + STACK_END
        if program.fx:
            ctypes.memmove(ctypes.addressof(state) + VcpuState.fx.offset, program.fx, 28)  # MXCSR_MASK stays
            ctypes.memmove(
                ctypes.addressof(state) + VcpuState.fx.offset + 32, program.fx[32:], len(program.fx) - 32)  # fmt: skip
        self.vcpu.engine.flush()

    def run(self, program: Program, endless_s: float = ENDLESS_S) -> Outcome:
        self._load(program)
        self.interrupts.resume()
        end = self._until_end(endless_s)
        self.interrupts.stun()
        memory = bytes(self.memory.read(0, RAM_PAGES * PAGE_SIZE))
        count = struct.unpack_from("<I", memory, PARAMETERS_AT + LOG_COUNT_AT)[0]
        words = (memory[LOG_AT + i * LOG_ENTRY.size :][: LOG_ENTRY.size] for i in range(min(count, 100)))
        log = [LogEntry(LOG_ENTRY.unpack(entry)) for entry in words]
        return Outcome(end, bytes(self.vcpu.state), memory, log)

    def _until_end(self, endless_s: float = ENDLESS_S) -> str:
        """Answer exits until the program ends; how."""
        deadline = time.monotonic() + endless_s
        while True:
            exit_ = self.vcpu.run(QUANTUM_US)
            if exit_.kind == ExitKind.IO:
                if end := self._port(exit_):
                    return end
            elif exit_.kind == ExitKind.MMIO:
                if not exit_.write:
                    self.vcpu.answer((1 << 8 * exit_.width) - 1)
            elif exit_.kind not in {ExitKind.QUANTUM, ExitKind.KICK}:
                return f"{exit_.kind.name} {exit_.reason} {exit_.vector}"
            if time.monotonic() > deadline:
                return "endless"

    def _port(self, exit_: Exit) -> str:
        if not exit_.write:
            self.vcpu.answer(ANSWER)
        elif exit_.address in {ENDED, ENDED_BY_KERNEL, KERNEL_FAULTED}:
            return f"port {exit_.address:#x}"
        return ""
