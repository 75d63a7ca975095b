"""A processor with paging on, whose ring 1-3 code may run on any engine: for the tests of direct execution.

The kernel is processor.py's: every vector has a handler that halts, or does what `handler` was given. Ring 1-3 code,
its stack and data have pages of their own at USER and up, so a test says what their page tables hold. `same` runs one
set-up under the interpreter and under another engine and compares everything that a guest can see.
"""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.vmm.core.processor import (
    CODE_SEL,
    IF,
    INT32,
    RAM_PAGES,
    Event,
    Processor,
    _address,
    gate,
    with_dpl,
)  # fmt: skip
from vmm._core import ffi
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.engines.named import engine_named
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage
from vmm.memory import PAGE_SIZE
from vmm.vcpu import SEGMENT_NAMES, Attention, ExitKind, Vcpu

P, W, U, A, D, PS, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
FULL = P | W | U | A | D
CR0_WP, CR0_PG, CR4_PSE, CR4_PGE, CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 16, 1 << 31, 1 << 4, 1 << 7, 1 << 9, 1 << 10
CR0_TS, CR0_NE = 1 << 3, 1 << 5

KERNEL_CODE, LOG = 0x9000, 0x6F000
DIRECTORY, TABLES, TABLES_END = 0x80000, 0x81000, 0xA0000
FRAMES = 0x100000                          # physical memory of the outer rings
USER = 0x40000000                          # where it is mapped
CODE_PAGES, STACK_PAGES, DATA_PAGES = 16, 4, 64
USER_CODE, USER_STACK, USER_DATA = USER, USER + 0x10000, USER + 0x20000
STACK_TOP = USER_STACK + STACK_PAGES * PAGE_SIZE
FREE_FRAME = FRAMES + 0x60000              # from here on a test's own
TSC_HZ = 1_000_000_000
FX_ENV, FX_SEEN = slice(6, 24), 288        # FOP, FIP and FDP of an FXSAVE image; what of it 32-bit code can see
R_386_32, R_386_PC32 = 1, 2


@functools.cache
def assemble_at(source: str, where: int) -> bytes:
    """Machine code of GNU assembler source, to run at `where`."""
    with tempfile.TemporaryDirectory() as folder:
        obj = Path(folder) / "o"
        subprocess.run(["as", "--32", "-o", obj, "-"], input=f".code32\n{source}\n", text=True, check=True)
        with obj.open("rb") as file:
            return linked(ELFFile(file), where)


def linked(elf: ELFFile, where: int) -> bytes:
    """Its .text with the references to itself and to absolute addresses resolved; a linker would take as long again."""
    code = bytearray(elf.get_section_by_name(".text").data())
    relocations, symbols = elf.get_section_by_name(".rel.text"), elf.get_section_by_name(".symtab")
    for entry in relocations.iter_relocations() if relocations else ():
        at, symbol = entry["r_offset"], symbols.get_symbol(entry["r_info_sym"])
        inside = symbol["st_shndx"] not in {"SHN_UNDEF", "SHN_ABS"}
        value = int.from_bytes(code[at : at + 4], "little") + (where if inside else 0)
        value -= {R_386_32: 0, R_386_PC32: where + at}[entry["r_info_type"]]
        code[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(code)


class OuterRings(Processor):
    """Paging is on, the kernel is mapped where it lies, the outer rings' pages are all there, accessed and dirty."""

    def __init__(self, engine: str = "direct-eager", features: str = "") -> None:
        super().__init__(features)
        page = self.state_file["interrupts"]
        assert isinstance(page, InterruptPage)
        self.interrupts = Interrupts(page, lambda mask: self.vcpu.kick(Attention.INTERRUPT))
        self.interrupts.power_on(1, TSC_HZ)
        self.interrupts.virtual_wire()
        self.features = features
        if engine != "interp":
            self.change_engine(engine)
        self.free_table = TABLES
        self.kernel_end = KERNEL_CODE
        self._page_tables()
        self.interrupts.resume()
        self.outer(3)

    def close(self) -> None:
        """The world's process; the rest goes with the object."""
        self.vcpu.engine.close()

    def __enter__(self) -> OuterRings:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def change_engine(self, name: str) -> None:
        """The machine is at rest; what one engine has cached the next one does not know."""
        self.vcpu.engine.close()
        leaves = cpu_model(self.features)
        model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
        for index, leaf in enumerate(leaves):
            model.leaves[index] = tuple(leaf)
        self.vcpu = Vcpu(0, self.v, self.control.page, engine_named(name)(self._map(), 0, model), self.memory)

    def _map(self) -> EngineMap:
        memory, file, control = self.memory, self.state_file, self.control
        files = EngineFiles(
            memory.ram.fd, memory.dev.fd, memory.pages.fd, file.fd, file.size, file.offsets["interrupts"],
            (file.offsets["vcpu0"],), (control.fd,), control.size,
        )  # fmt: skip
        return EngineMap(
            ram=_address(memory.ram.bytes), ram_bytes=RAM_PAGES * PAGE_SIZE, dev=_address(memory.dev.bytes),
            dev_bytes=memory.dev.size, pages=_address(memory.pages.bytes), pages_bytes=memory.pages.size,
            interrupts=file.address("interrupts"), vcpus=(file.address("vcpu0"),), controls=(control.address,),
            files=files,
        )  # fmt: skip

    # ---- page tables ----------------------------------------------------------------------------------------------

    def _page_tables(self) -> None:
        user_pages = (USER_DATA - USER) // PAGE_SIZE + DATA_PAGES
        self.map_run(0, 0, RAM_PAGES, P | W | A | D)
        self.map_run(USER, FRAMES, user_pages, FULL)
        self.v.cr3 = DIRECTORY
        self.v.cr0 |= CR0_PG | CR0_NE
        self.v.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT

    def new_table(self) -> int:
        table, self.free_table = self.free_table, self.free_table + PAGE_SIZE
        assert table < TABLES_END
        return table

    def map(self, linear: int, physical: int, flags: int, directory: int = DIRECTORY) -> None:
        """Enter one page. Its directory entry grants everything."""
        pde = directory + (linear >> 22) * 4
        if not self.read32(pde) & P:
            self.write32(pde, self.new_table() | P | W | U | A)
        self.write32(self.pte_address(linear, directory), physical | flags)

    def map_run(self, linear: int, physical: int, count: int, flags: int, directory: int = DIRECTORY) -> None:
        """Pages in a row, below one directory entry."""
        self.map(linear, physical, flags, directory)
        entries = (physical + page * PAGE_SIZE | flags for page in range(count))
        self.write(self.pte_address(linear, directory), struct.pack(f"<{count}I", *entries))

    def pte_address(self, linear: int, directory: int = DIRECTORY) -> int:
        return (self.read32(directory + (linear >> 22) * 4) & ~0xFFF) + (linear >> 12 & 0x3FF) * 4

    def pte(self, linear: int, directory: int = DIRECTORY) -> int:
        return self.read32(self.pte_address(linear, directory))

    def change(self, linear: int, clear: int = 0, add: int = 0) -> None:
        """Bits of a page-table entry, before the guest has used it."""
        self.write32(self.pte_address(linear), self.pte(linear) & ~clear | add)

    @staticmethod
    def frame(linear: int) -> int:
        """Where an outer ring's page lies in guest memory."""
        return linear - USER + FRAMES

    # ---- programs -------------------------------------------------------------------------------------------------

    def outer(self, ring: int, flags: int = IF) -> None:
        """About to run USER_CODE in this ring."""
        self.ring(ring)
        self.v.eip, self.v.eflags, self.v.r[4] = USER_CODE, 2 | flags, STACK_TOP - 64

    def code(self, source: str, where: int = USER_CODE) -> None:
        self.write(self.frame(where), assemble_at(source, where))

    def handler(self, vector: int, source: str, dpl: int = 3) -> int:
        """Ring-0 code for a vector, entered by an interrupt gate. Its address."""
        where = self.kernel_end
        code = assemble_at(source, where)
        self.kernel_end = where + len(code) + 15 & ~15
        assert self.kernel_end <= 0x10000
        self.write(where, code)
        self.set_gate(vector, gate(CODE_SEL[0], where, with_dpl(INT32, dpl)))
        return where

    def go(self, source: str | None = None) -> Event | None:
        """Run until the kernel halts: the event whose handler did it. None: see `last`."""
        if source is not None:
            self.code(source)
        return self.resume()

    def log(self) -> list[int]:
        """Words that handlers have put at LOG, whose first counts its bytes."""
        return self.words(LOG + 4, self.read32(LOG) // 4)

    @property
    def stays(self) -> list[int]:
        """Stays in guest code, by ring."""
        return list(self.vcpu.stats.direct_stays)

    # ---- comparing ------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, object]:
        """All that the guest could find out, but for time and the x87's pointers."""
        v = self.v
        seen: dict[str, object] = {
            name: getattr(v, name) for name in ("eip", "eflags", "cpl", "cr0", "cr2", "cr3", "cr4", "activity")
        }
        seen["r"] = list(v.r)[:8]
        seen["dr"] = list(v.dr)
        for index, name in enumerate(SEGMENT_NAMES):
            s = v.seg[index]
            seen[name] = (s.selector, s.base, s.limit, s.attr)
        fx = bytearray(bytes(v.fx)[:FX_SEEN])
        fx[FX_ENV] = bytes(len(fx[FX_ENV]))
        seen["fx"] = bytes(fx)
        seen["memory"] = self.memory.read(0, RAM_PAGES * PAGE_SIZE)
        return seen


# Appends a word to LOG. Clobbers EBX.
LOG_WORD = ".macro log_word from\nmovl 0x6f000, %ebx\naddl $4, 0x6f000\nmovl \\from, 0x6f004(%ebx)\n.endm\n"


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """What two snapshots do not agree on, for a person."""
    found = [f"{name}: {a[name]} and {b[name]}" for name in a if name != "memory" and a[name] != b[name]]
    left, right = a["memory"], b["memory"]
    assert isinstance(left, bytes) and isinstance(right, bytes)
    if left != right:
        places = [i for i in range(0, len(left), 4) if left[i : i + 4] != right[i : i + 4]]
        found += [f"memory {i:#x}: {left[i : i + 4].hex()} and {right[i : i + 4].hex()}" for i in places[:16]]
    return found


def same(
    prepare: Callable[[OuterRings], None],
    engine: str = "direct-eager",
    until: Callable[[OuterRings], bool] | None = None,
) -> OuterRings:
    """Prepare and run under the interpreter and under `engine`; the latter's processor when nothing differs.

    A run ends when the kernel halts; with `until` it goes on behind the halt while that is not true.
    """
    made = {}
    for name in ("interp", engine):
        p = made[name] = OuterRings(name)
        prepare(p)
        while True:
            p.resume()
            if until is None or until(p) or p.last is None or p.last.kind != ExitKind.HLT:
                break
    assert made["interp"].last is not None and made[engine].last is not None
    found = differences(made["interp"].snapshot(), made[engine].snapshot())
    assert not found, f"interp and {engine} differ:\n" + "\n".join(found)
    assert made["interp"].last.kind == made[engine].last.kind
    made[engine].close()
    return made[engine]

