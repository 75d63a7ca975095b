"""Runs batches of test cases (native/batch.h) on the interpreter and on the host processor.

Both get the same linear memory and the same descriptor tables, so a case means the same to both: the guest's tables
mirror what a 64-bit Linux kernel gives a 32-bit program, and the LDT below is installed on both sides.
The native parts are compiled with gcc into the user's cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineMap
from vmm.engines.interp import Interp
from vmm.layout_spec import InterruptPage, Segment, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import ControlMapping

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "vmm" / "core"

TEMPLATE_SEED = 1  # of data memory in the tests
BATCH = 20_000  # cases that the tests run at a time

# ---- native/batch.h --------------------------------------------------------------------------------------------------

CODE_BASE, CODE_BYTES, CODE_FILL = 0x10000000, 0x4000, 0xCC
DATA_BASE, DATA_BYTES = 0x20000000, 0x10000
READ_ONLY_PAGE, ABSENT_PAGE = 8, 9
CASE_CODE, CHANGES, FX_BYTES = 256, 12, 288
TIMEOUT, SYSCALL, OTHER = 0x100, 0x101, 0x102

CASE = np.dtype(
    [
        ("r", "<u4", 8), ("eip", "<u4"), ("eflags", "<u4"), ("sel", "<u4", 6), ("code_at", "<u4"),
        ("code_length", "<u4"), ("code", f"S{CASE_CODE}"), ("fx", "u1", FX_BYTES),
    ]
)  # fmt: skip
CHANGE = np.dtype([("offset", "<u4"), ("spare", "<u4"), ("value", "<u8")])
RESULT = np.dtype(
    [
        ("r", "<u4", 8), ("eip", "<u4"), ("eflags", "<u4"), ("sel", "<u4", 6), ("trap", "<u4"), ("error", "<u4"),
        ("cr2", "<u4"), ("changes", "<u4"), ("digest", "<u8"), ("change", CHANGE, CHANGES), ("fx", "u1", FX_BYTES),
    ]
)  # fmt: skip
Cases = npt.NDArray[np.void]
Results = npt.NDArray[np.void]

# ---- descriptors -----------------------------------------------------------------------------------------------------

USER_CODE, USER_DATA = 0x23, 0x2B
KERNEL_CODE, KERNEL_DATA = 0x08, 0x18


@dataclass(frozen=True, slots=True)
class LdtEntry:
    """One LDT descriptor, DPL 3, as modify_ldt(2) takes it. `contents`: 0 data, 1 expand-down, 2 code."""

    base: int
    limit: int
    big: int = 1
    contents: int = 0
    read_or_exec_only: int = 0
    pages: int = 0
    absent: int = 0

    def user_desc(self, index: int) -> tuple[int, int, int, int]:
        flags = (
            self.big | self.contents << 1 | self.read_or_exec_only << 3 | self.pages << 4 | self.absent << 5 | 1 << 6
        )
        return index, self.base, self.limit, flags

    def descriptor(self) -> int:
        kind = (self.read_or_exec_only ^ 1) << 1 | self.contents << 2 | 1
        access = kind | 0x10 | 0x60 | (self.absent ^ 1) << 7
        flags = 1 | self.big << 2 | self.pages << 3
        return descriptor(self.base, self.limit, access, flags)


LDT = (
    LdtEntry(DATA_BASE, 0xFFFF),                                     # 07 data
    LdtEntry(DATA_BASE, 0xFFFF, big=0),                              # 0F data, 16-bit stack
    LdtEntry(DATA_BASE, 0xFFFF, read_or_exec_only=1),                # 17 read-only
    LdtEntry(DATA_BASE, 0x7FFF, contents=1),                         # 1F expand-down: 8000h..4G
    LdtEntry(DATA_BASE, 0x3FFF, big=0, contents=1),                  # 27 expand-down: 4000h..FFFFh
    LdtEntry(CODE_BASE, CODE_BYTES - 1, contents=2),                 # 2F code
    LdtEntry(CODE_BASE, CODE_BYTES - 1, big=0, contents=2),          # 37 16-bit code
    LdtEntry(CODE_BASE, CODE_BYTES - 1, big=0, contents=2, read_or_exec_only=1),     # 3F
    LdtEntry(CODE_BASE, 0x1FFF, contents=2),                         # 47 code with a limit
    LdtEntry(DATA_BASE, 0xFFFF, absent=1),                           # 4F not present
    LdtEntry(DATA_BASE + 0x1000, 0x12),                              # 57 19 bytes
    LdtEntry(CODE_BASE, CODE_BYTES - 1, contents=2, absent=1),       # 5F not present
    LdtEntry(DATA_BASE + 5, 0xFFFFE, pages=1),                       # 67 4 GiB - 4 KiB from an odd base
    LdtEntry(0, 0xFFFFF, pages=1, read_or_exec_only=1),              # 6F flat, read-only
)  # fmt: skip


def ldt_selector(index: int) -> int:
    return index * 8 + 7


def descriptor(base: int, limit: int, access: int, flags: int) -> int:
    """`flags` is the nibble G, DB, L, AVL."""
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52
        | (base >> 24) << 56
    )  # fmt: skip


def hidden(value: int) -> Segment:
    """The hidden part that loading this descriptor gives."""
    limit = value & 0xFFFF | value >> 32 & 0xF0000
    if value >> 55 & 1:
        limit = limit << 12 | 0xFFF
    base = value >> 16 & 0xFFFFFF | (value >> 56) << 24
    return Segment(0, base, limit, value >> 40 & 0xF0FF)


# The kernel's GDT, as far as code at CPL 3 can see it (asm/segment.h).
GDT_ENTRIES = 16
CPU = min(os.sched_getaffinity(0))  # where the host's cases run: the limit of one segment says so
GDT = {
    0x08: descriptor(0, 0xFFFFF, 0x9B, 0xC),
    0x10: descriptor(0, 0xFFFFF, 0x9B, 0xA),
    0x18: descriptor(0, 0xFFFFF, 0x93, 0xC),
    0x20: descriptor(0, 0xFFFFF, 0xFB, 0xC),
    0x28: descriptor(0, 0xFFFFF, 0xF3, 0xC),
    0x30: descriptor(0, 0xFFFFF, 0xFB, 0xA),
    0x78: descriptor(0, CPU, 0xF5, 0x4),
}

# ---- native code -----------------------------------------------------------------------------------------------------

HOST_FLAGS = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
    "-fcf-protection=none", "-mgeneral-regs-only", "-fPIE", "-no-pie", "-static", "-nostdlib", "-Wl,--build-id=none",
    "-Wl,-z,noexecstack", "-Wl,-Ttext-segment=0x700000000000",
)  # fmt: skip
DRIVER_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I", str(CORE))


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ringfence" / "conformance"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def build(source: str, flags: Sequence[str]) -> Path:
    """Compile one file of native/ if its inputs changed; concurrent builders never see half a file."""
    inputs = [HERE / "native" / source, HERE / "native" / "batch.h", CORE / "core.h"]
    key = hashlib.sha256(repr(flags).encode() + b"".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    target = cache_folder() / f"{Path(source).stem}-{key}"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", *flags, "-o", partial, HERE / "native" / source], check=True)
        partial.rename(target)
    return target


def data_template(seed: int) -> bytes:
    """What data memory holds before a case: interesting numbers, pointers into both regions, far-transfer frames."""
    rng = np.random.default_rng(seed)
    words = DATA_BYTES // 4
    small = rng.integers(0, 256, words)
    pools = [
        rng.integers(0, 1 << 32, words),
        rng.choice(INTERESTING, words),
        CODE_BASE + rng.integers(0, CODE_BYTES, words),
        DATA_BASE + rng.integers(0, DATA_BYTES, words),
        small,
        rng.standard_normal(words).astype("<f4").view("<u4"),
        rng.choice(FLOAT_BITS, words),
    ]
    which = rng.choice(len(pools), words, p=[0.3, 0.25, 0.1, 0.1, 0.1, 0.1, 0.05])
    data = np.choose(which, pools).astype("<u4")
    frames32 = data[FRAMES32 // 4 :][: FRAMES * 8].reshape(FRAMES, 8)
    for row in frames32:
        row[:5] = far_frame(rng)
    frames16 = data.view("<u2")[FRAMES16 // 2 :][: FRAMES * 8].reshape(FRAMES, 8)
    for row in frames16:
        row[:5] = [word & 0xFFFF for word in far_frame(rng)]
    return data.tobytes()


INTERESTING = np.array(
    [0, 1, 2, 0xFF, 0x100, 0x7F, 0x80, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE,
     0x55555555, 0xAAAAAAAA, 0x80000001, 0x0F0F0F0F, 31, 32, 33, 8, 9, 16, 17],
    dtype=np.int64,
)  # fmt: skip
FLOAT_BITS = np.array(
    [0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x00000001, 0x80000000, 0x007FFFFF,
     0x7F7FFFFF, 0x4F000000, 0x3FF00000, 0x7FF00000, 0x7FF80000, 0x40490FDB],
    dtype=np.int64,
)  # fmt: skip
FRAMES, FRAMES32, FRAMES16 = 64, 0x6000, 0x7000
FAR_CODE = (USER_CODE,) * 4 + (
    0x2F,
    0x2F,
    0x37,
    0x47,
    0x3F,
    0x5F,
    0x4F,
    0x07,
    USER_DATA,
    0,
    3,
    0x08,
    0x20,
    0x77,
    0x2C,
    0x100,
)
FAR_DATA = (USER_DATA,) * 3 + (
    0x07,
    0x0F,
    0x17,
    0x1F,
    0x27,
    0x2F,
    0x3F,
    0x4F,
    0x57,
    0x67,
    0x6F,
    0,
    1,
    3,
    0x18,
    0x77,
    0x23,
    0x28,
    0x200,
)


def far_frame(rng: np.random.Generator) -> list[int]:
    """EIP CS EFLAGS ESP SS."""
    cs = int(rng.choice(FAR_CODE))
    eip = int(rng.integers(0, CODE_BYTES)) + (CODE_BASE if cs in {USER_CODE, 0x20} else 0)
    ss = int(rng.choice(FAR_DATA))
    esp = int(rng.integers(0, DATA_BYTES)) + (DATA_BASE if ss in {USER_DATA, 0x6F} else 0)
    eflags = int(rng.integers(0, 1 << 32)) & 0x247CD5 if rng.random() < 0.5 else 0x202
    return [eip, cs, eflags & ~0x4100, esp, ss]


# ---- the host --------------------------------------------------------------------------------------------------------


class Host:
    """The host processor: a child process that runs the cases natively. `why_not` tells whether it can."""

    LDT_AT, LDT_MAX = 8, 32
    DATA_AT = LDT_AT + 16 * LDT_MAX + 16
    CASES_AT = DATA_AT + DATA_BYTES

    def __init__(self, template: bytes, capacity: int) -> None:
        self.capacity = capacity
        results_at = -(-(self.CASES_AT + capacity * CASE.itemsize) // 4096) * 4096
        size = -(-(results_at + capacity * RESULT.itemsize) // 4096) * 4096
        fd = os.memfd_create("ringfence-batch")
        os.ftruncate(fd, size)
        self.map = mmap.mmap(fd, size)
        self.words = np.frombuffer(self.map, dtype="<u4", count=2)
        self.words[1] = len(LDT)
        table = np.frombuffer(self.map, dtype="<u4", count=4 * len(LDT), offset=self.LDT_AT).reshape(-1, 4)
        table[:] = [entry.user_desc(index) for index, entry in enumerate(LDT)]
        np.frombuffer(self.map, dtype="<u8", count=2, offset=self.DATA_AT - 16)[:] = results_at, size
        self.map[self.DATA_AT : self.DATA_AT + DATA_BYTES] = template
        self.cases = np.frombuffer(self.map, dtype=CASE, count=capacity, offset=self.CASES_AT)
        self.results = np.frombuffer(self.map, dtype=RESULT, count=capacity, offset=results_at)
        program = str(build("host.c", HOST_FLAGS))
        self.socket, other = socket.socketpair()
        self.child = subprocess.Popen([program], stdin=fd, stdout=other.fileno())
        os.sched_setaffinity(self.child.pid, {CPU})
        other.close()
        os.close(fd)

    def run(self, cases: Cases) -> Results:
        count = len(cases)
        assert count <= self.capacity
        self.cases[:count] = cases
        self.words[0] = count
        self.socket.send(b"x")
        if self.socket.recv(1) != b"x":
            raise HostLost(self.child.wait())
        return self.results[:count].copy()

    def close(self) -> None:
        self.socket.close()
        self.child.wait(timeout=10)


class HostLost(Exception):
    """The runner ended: its exit status, or a signal number below zero."""


def why_not() -> str | None:
    """Why the host processor cannot be asked, or None."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the host is not x86-64 Linux"
    try:
        host = Host(bytes(DATA_BYTES), 1)
        case = np.zeros(1, CASE)
        case["eip"], case["eflags"], case["sel"] = CODE_BASE, 0x202, [USER_DATA, USER_CODE] + [USER_DATA] * 4
        host.run(case)
        host.close()
    except (HostLost, BrokenPipeError) as error:
        return f"the host's kernel does not let 32-bit code run: {error}"
    return None


def host_vendor() -> str:
    """As CPUID leaf 0 names it."""
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "unknown")


# ---- the interpreter -------------------------------------------------------------------------------------------------


class Driver(ctypes.Structure):
    """struct driver of native/interp.c."""

    _fields_ = [
        ("run", ctypes.c_void_p), ("engine", ctypes.c_void_p), ("vcpu", ctypes.c_void_p), ("control", ctypes.c_void_p),
        ("pages", ctypes.c_void_p), ("ram", ctypes.c_void_p), ("code_before", ctypes.c_void_p),
        ("data_before", ctypes.c_void_p), ("instructions", ctypes.c_uint64), ("code_gpa", ctypes.c_uint32),
        ("data_gpa", ctypes.c_uint32), ("handlers", ctypes.c_uint32), ("stack_linear", ctypes.c_uint32),
        ("stack_gpa", ctypes.c_uint32), ("protected_mode", ctypes.c_uint32), ("base", VcpuState),
        ("segments", Segment * 64),
    ]  # fmt: skip


RAM_PAGES = 1024
KERNEL = 0x6BC00000  # linear address of guest physical 0, supervisor only
GDT_AT, IDT_AT, LDT_AT, TSS_AT, HANDLERS_AT, STACK_AT = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x20000
PDPT_AT, TABLES_AT, CODE_AT, DATA_AT = 0x40000, 0x41000, 0x100000, 0x110000
NX = 1 << 63
CR0, CR4 = 0x80050033, 0x620  # PG AM WP NE ET MP PE; OSXMMEXCPT OSFXSR PAE
KERNEL_PAGES = 0x50


class InterpPeer:
    """The interpreter in a guest that looks to ring 3 like the host's kernel."""

    CODE_GPA, DATA_GPA, HANDLERS, STACK_LINEAR, PROTECTED = CODE_AT, DATA_AT, KERNEL + HANDLERS_AT, KERNEL, 1

    def __init__(self, template: bytes) -> None:
        self.memory = GuestMemory(RAM_PAGES)
        self.memory.map_ram(0, RAM_PAGES)
        self.state = StateFile.create({"vcpu0": VcpuState, "interrupts": InterruptPage})
        self.control = ControlMapping(0)
        interrupts, vcpu = self.state.address("interrupts"), self.state.address("vcpu0")
        lib.intr_reset(ffi.cast("struct interrupts *", interrupts), 1)
        lib.vcpu_reset(ffi.cast("struct vcpu *", vcpu), 0, 0x683)
        where = EngineMap(
            ram=address(self.memory.ram.bytes), ram_bytes=RAM_PAGES * PAGE_SIZE,
            dev=address(self.memory.dev.bytes), dev_bytes=self.memory.dev.size,
            pages=address(self.memory.pages.bytes), pages_bytes=self.memory.pages.size,
            interrupts=interrupts, vcpus=(vcpu,), controls=(self.control.address,),
        )  # fmt: skip
        leaves = cpu_model("")
        model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
        for index, leaf in enumerate(leaves):
            model.leaves[index] = tuple(leaf)
        self.engine = Interp(where, 0, model)
        self._code_before = ctypes.create_string_buffer(bytes([CODE_FILL]) * CODE_BYTES, CODE_BYTES)
        self._data_before = ctypes.create_string_buffer(template, DATA_BYTES)
        self._tables()
        self.memory.write(self.CODE_GPA, bytes([CODE_FILL]) * CODE_BYTES)
        self.memory.write(self.DATA_GPA, template)
        self.driver = Driver(
            run=int(ffi.cast("uintptr_t", ffi.addressof(lib, "engine_run"))),
            engine=int(ffi.cast("uintptr_t", self.engine.arena())),
            vcpu=vcpu, control=self.control.address, pages=where.pages, ram=where.ram,
            code_before=ctypes.addressof(self._code_before), data_before=ctypes.addressof(self._data_before),
            code_gpa=self.CODE_GPA, data_gpa=self.DATA_GPA, handlers=self.HANDLERS, stack_linear=self.STACK_LINEAR,
            stack_gpa=0, protected_mode=self.PROTECTED,
        )  # fmt: skip
        self._base()
        self._run = ctypes.CDLL(str(build("interp.c", DRIVER_FLAGS))).run_cases
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
        self._run.restype = None

    def _tables(self) -> None:
        write = self.memory.write
        for selector, value in GDT.items():
            write(GDT_AT + selector, value.to_bytes(8, "little"))
        write(GDT_AT + 0x40, descriptor(KERNEL + TSS_AT, 0x67, 0x8B, 0).to_bytes(8, "little"))
        write(GDT_AT + 0x50, descriptor(KERNEL + LDT_AT, len(LDT) * 8 - 1, 0x82, 0).to_bytes(8, "little"))
        for index, entry in enumerate(LDT):
            write(LDT_AT + index * 8, entry.descriptor().to_bytes(8, "little"))
        for vector in range(256):
            at = KERNEL + HANDLERS_AT + vector * 16
            dpl = 3 if vector in {3, 4} else 0
            value = at & 0xFFFF | KERNEL_CODE << 16 | (0x8E | dpl << 5) << 40 | (at >> 16) << 48
            write(IDT_AT + vector * 8, value.to_bytes(8, "little"))
            write(HANDLERS_AT + vector * 16, b"\xf4")
        write(TSS_AT + 4, (KERNEL + STACK_AT).to_bytes(4, "little") + KERNEL_DATA.to_bytes(4, "little"))
        write(TSS_AT + 0x66, (0x68).to_bytes(2, "little"))
        self._page_tables()

    def _page_tables(self) -> None:
        """PAE: four directories, and one page table for each of the regions."""
        directories = np.zeros((4, 512), dtype="<u8")
        tables = np.zeros((3, 512), dtype="<u8")
        spaces = [
            (CODE_BASE, CODE_AT, CODE_BYTES, 7),
            (DATA_BASE, DATA_AT, DATA_BYTES, 7 | NX),
            (KERNEL, 0, KERNEL_PAGES << 12, 3),
        ]
        for index, (linear, gpa, size, bits) in enumerate(spaces):
            directories[linear >> 30, linear >> 21 & 511] = TABLES_AT + 0x4000 + index * 4096 | 7
            for page in range(size >> 12):
                tables[index, page] = gpa + (page << 12) | bits
        tables[1, READ_ONLY_PAGE] &= ~np.uint64(2)
        tables[1, ABSENT_PAGE] = 0
        self.memory.write(PDPT_AT, b"".join((TABLES_AT + i * 4096 | 1).to_bytes(8, "little") for i in range(4)))
        self.memory.write(TABLES_AT, directories.tobytes() + tables.tobytes())

    def _base_from_reset(self) -> VcpuState:
        vcpu = self.state["vcpu0"]
        assert isinstance(vcpu, VcpuState)
        ctypes.memmove(ctypes.addressof(self.driver.base), ctypes.addressof(vcpu), ctypes.sizeof(VcpuState))
        base = self.driver.base
        assert isinstance(base, VcpuState)
        return base

    def _base(self) -> None:
        base = self._base_from_reset()
        base.cpl, base.cr0, base.cr3, base.cr4, base.efer = 3, CR0, PDPT_AT, CR4, 1 << 11
        for index in range(4):
            base.pdpte[index] = TABLES_AT + index * 4096 | 1
        base.gdtr.base, base.gdtr.limit = KERNEL + GDT_AT, GDT_ENTRIES * 8 - 1
        base.idtr.base, base.idtr.limit = KERNEL + IDT_AT, 0x7FF
        base.seg[6] = Segment(0x50, KERNEL + LDT_AT, len(LDT) * 8 - 1, 0x82)
        base.seg[7] = Segment(0x40, KERNEL + TSS_AT, 0x67, 0x8B)
        for selector, value in GDT.items():
            self.driver.segments[selector >> 2] = hidden(value)
        for index, entry in enumerate(LDT):
            self.driver.segments[ldt_selector(index) >> 2] = hidden(entry.descriptor())

    def run(self, cases: Cases) -> Results:
        cases = np.ascontiguousarray(cases)
        results = np.zeros(len(cases), RESULT)
        self._run(ctypes.addressof(self.driver), cases.ctypes.data, results.ctypes.data, len(cases))
        return results

    def close(self) -> None:
        self.engine.close()
        self.state.close()
        self.memory.close()


REAL_CODE, REAL_DATA = 0x10000, 0x20000


class RealPeer(InterpPeer):
    """The interpreter in real mode: code and data are segments 1000h and 2000h, every vector leads to segment 0."""

    CODE_GPA, DATA_GPA, HANDLERS, STACK_LINEAR, PROTECTED = REAL_CODE, REAL_DATA, HANDLERS_AT, 0, 0

    def _tables(self) -> None:
        for vector in range(256):
            self.memory.write(vector * 4, (HANDLERS_AT + vector * 16).to_bytes(4, "little"))
            self.memory.write(HANDLERS_AT + vector * 16, b"\xf4")
        self.memory.write(REAL_CODE, bytes([CODE_FILL]) * 0x10000)

    def _base(self) -> None:
        base = self._base_from_reset()
        base.cr0, base.cr4 = 0x10, 0x600
        base.idtr.base, base.idtr.limit = 0, 0x3FF
        for index in range(6):
            base.seg[index].limit, base.seg[index].attr = 0xFFFF, 0x93


def address(mapping: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))
