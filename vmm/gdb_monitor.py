"""The `monitor` commands of the GDB stub: what a debugger of user programs cannot ask for.

A command is a row of COMMANDS; each answers with lines. A command that fails answers with one line that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ringfence.errors import RingfenceError
from vmm._core import lib
from vmm.descriptor_spec import DESCRIPTOR_BYTES, Descriptor
from vmm.gdb_registers import Registers
from vmm.gdb_target_spec import REGISTERS
from vmm.interrupts import Interrupts
from vmm.pagewalk import NX, A, D, G, P, Page, PageTables, U, W
from vmm.shadow import ShadowTable
from vmm.vcpu import MemoryReader, Vcpu

LINES_MAX = 2000
PHYSICAL_BYTES_MAX = 4096
TSS32_FIELDS = ("link", "esp0", "ss0", "esp1", "ss1", "esp2", "ss2", "cr3", "eip", "eflags", "eax", "ecx", "edx", "ebx",
                "esp", "ebp", "esi", "edi", "es", "cs", "ss", "ds", "fs", "gs", "ldt", "iomap")  # fmt: skip
TSS16_FIELDS = ("link", "sp0", "ss0", "sp1", "ss1", "sp2", "ss2", "ip", "flags", "ax", "cx", "dx", "bx", "sp", "bp",
                "si", "di", "es", "cs", "ss", "ds", "ldt")  # fmt: skip
TSS16_TYPES = frozenset({1, 3})
SHADOW_FLAGS = ("writable", "executable", "traced", "global", "large", "dev", "mmio", "rom", "framebuffer")
PTE_LETTERS = (("w", W), ("u", U), ("a", A), ("d", D), ("g", G))


class Refused(RingfenceError):
    """A command that cannot be carried out."""


class Monitored(Protocol):
    """The stopped machine."""

    @property
    def vcpu(self) -> Vcpu: ...

    @property
    def memory(self) -> MemoryReader: ...

    @property
    def interrupts(self) -> Interrupts: ...

    def device_lines(self) -> Iterable[str]: ...

    def reset(self) -> None: ...


class Monitor:
    """Answers commands about one machine. `wants_quit` and `was_reset` are set by the commands of these names."""

    def __init__(self, machine: Monitored, registers: Registers) -> None:
        self.machine, self.registers = machine, registers
        self.wants_quit = self.was_reset = False

    def run(self, line: str) -> str:
        """The answer to a command line, ending with a newline unless empty. Raises nothing."""
        words = line.split()
        handler, arguments = find(words)
        try:
            lines = list(handler(self, arguments)) if handler else [f"no such command: {line.strip()!r}; try: help"]
        except RingfenceError as error:
            lines = [str(error)]
        if len(lines) > LINES_MAX:
            lines[LINES_MAX:] = [f"... and {len(lines) - LINES_MAX} lines more"]
        return "".join(f"{text}\n" for text in lines)

    # commands

    def help(self, arguments: list[str]) -> Iterator[str]:
        for name, (_, text) in COMMANDS.items():
            yield f"monitor {name:22} {text}"

    def reset(self, arguments: list[str]) -> list[str]:
        self.machine.reset()
        self.was_reset = True
        return ["the machine is as after power-on, with its program loaded again"]

    def quit(self, arguments: list[str]) -> list[str]:
        self.wants_quit = True
        return ["the machine ends with this command"]

    def info_registers(self, arguments: list[str]) -> Iterator[str]:
        rows = [reg for reg in REGISTERS if reg.bits <= 64 and reg.group not in {"float", "vector"}]
        for start in range(0, len(rows), 4):
            yield "  ".join(
                f"{reg.name:11} {self.registers.value(reg):0{reg.bytes * 2}x}" for reg in rows[start : start + 4]
            )

    def info_pte(self, arguments: list[str]) -> Iterator[str]:
        linear = number(arguments, "info pte ADDRESS")
        tables = self._tables()
        for entry in tables.entries(linear):
            present = "" if entry.value & P else "  not present"
            value = f"{entry.value:0{16 if tables.pae else 8}x}"
            yield f"{entry.name:5} at {entry.gpa:09x}: {value} {letters(entry.value)}{present}"
        gpa = self.machine.vcpu.engine.translate(linear)
        yield f"{linear:08x} -> {'nothing' if gpa is None else f'{gpa:09x}'}"

    def info_mem(self, arguments: list[str]) -> Iterator[str]:
        for first, end, rights in merged(self._tables().pages()):
            user, write, execute = rights & U, rights & W, not rights & NX
            shown = f"{'u' if user else '-'}r{'w' if write else '-'}{'x' if execute else '-'}"
            yield f"{first:08x}-{end - 1:08x} {end - first:9x} {shown}"

    def info_tlb(self, arguments: list[str]) -> Iterator[str]:
        """The shadow page table: what the engine remembers, not all that the guest's tables say."""
        table = ShadowTable(self.machine.vcpu.engine.arena()).dump()
        if not len(table):
            yield "it is empty"
        for row in table:
            names = [name for name in SHADOW_FLAGS if row[name]]
            view = "user" if row["view"] else "supervisor"
            yield f"{int(row['vpn']) << 12:08x} -> {int(row['ppn']) << 12:09x} {view:10} {' '.join(names)}"

    def info_gdt(self, arguments: list[str]) -> Iterator[str]:
        state = self.machine.vcpu.state
        return self._descriptors("GDT", state.gdtr.base, state.gdtr.limit, 0)

    def info_ldt(self, arguments: list[str]) -> Iterator[str]:
        ldtr = self.machine.vcpu.segment("ldtr")
        if ldtr.attr & lib.SEG_UNUSABLE or ldtr.selector & ~3 == 0:
            return iter(["there is no LDT: LDTR is null"])
        return self._descriptors("LDT", ldtr.base, ldtr.limit, 4)

    def info_idt(self, arguments: list[str]) -> Iterator[str]:
        state = self.machine.vcpu.state
        if not state.cr0 & lib.CR0_PE:
            return self._vectors(state.idtr.base, state.idtr.limit)
        return self._descriptors("IDT", state.idtr.base, min(state.idtr.limit, 0x7FF), None)

    def info_tss(self, arguments: list[str]) -> Iterator[str]:
        tr = self.machine.vcpu.segment("tr")
        if tr.attr & lib.SEG_UNUSABLE:
            yield "there is no TSS: TR is not loaded"
            return
        old = tr.attr & lib.SEG_TYPE in TSS16_TYPES
        names, size = (TSS16_FIELDS, 2) if old else (TSS32_FIELDS, 4)
        yield f"TR {tr.selector:04x}: base {tr.base:08x} limit {tr.limit:08x} {'TSS16' if old else 'TSS32'}"
        raw = self.machine.vcpu.read_linear(tr.base, min(size * len(names), tr.limit + 1))
        fields = [
            f"{name:6} {int.from_bytes(raw[index * size : (index + 1) * size], 'little'):0{size * 2}x}"
            for index, name in enumerate(names)
            if (index + 1) * size <= len(raw)
        ]
        for start in range(0, len(fields), 6):
            yield "  ".join(fields[start : start + 6])

    def info_pic(self, arguments: list[str]) -> Iterator[str]:
        for index, name in enumerate(("master", "slave")):
            p = self.machine.interrupts.pic(index)
            yield f"{name:6} irr {p.irr:02x} isr {p.isr:02x} imr {p.imr:02x} elcr {p.elcr:02x} base {p.base:02x}"

    def info_pit(self, arguments: list[str]) -> Iterator[str]:
        for index, channel in enumerate(self.machine.interrupts.state.pit.channel):
            yield f"channel {index}: mode {channel.mode} count {channel.count or 0x10000} bcd {channel.bcd}"

    def info_apic(self, arguments: list[str]) -> Iterator[str]:
        a = self.machine.interrupts.apic(self.machine.vcpu.number)
        yield f"{'enabled' if a.enabled else 'disabled'}, tpr {a.tpr:02x}, events {a.events!r}"
        yield "irr " + " ".join(f"{vector:02x}" for vector in a.irr)
        yield "isr " + " ".join(f"{vector:02x}" for vector in a.isr)
        yield "lvt " + " ".join(f"{entry:08x}" for entry in a.lvt)

    def info_devices(self, arguments: list[str]) -> Iterable[str]:
        return self.machine.device_lines()

    def physical(self, arguments: list[str]) -> Iterator[str]:
        gpa = number(arguments, "xp ADDRESS [BYTES]")
        count = min(number(arguments[1:], "xp ADDRESS [BYTES]"), PHYSICAL_BYTES_MAX) if len(arguments) > 1 else 64
        raw = self.machine.memory.read(gpa, count)
        for start in range(0, len(raw), 16):
            yield f"{gpa + start:09x}: {raw[start : start + 16].hex(' ')}"

    # parts of answers

    def _tables(self) -> PageTables:
        tables = PageTables(self.machine.vcpu.state, self.machine.memory.read)
        if not tables.on:
            raise Refused("paging is off: linear addresses are physical")
        return tables

    def _descriptors(self, name: str, base: int, limit: int, selector_bits: int | None) -> Iterator[str]:
        yield f"{name} base {base:08x} limit {limit:04x}"
        raw = self.machine.vcpu.read_linear(base, limit + 1)
        for at in range(0, len(raw) - DESCRIPTOR_BYTES + 1, DESCRIPTOR_BYTES):
            value = int.from_bytes(raw[at : at + DESCRIPTOR_BYTES], "little")
            if value:
                index = at // DESCRIPTOR_BYTES if selector_bits is None else at | selector_bits
                yield f"{index:04x}  {value:016x}  {Descriptor(value)}"
        if len(raw) < limit + 1:
            yield f"from {base + len(raw):08x} on it is not mapped"

    def _vectors(self, base: int, limit: int) -> Iterator[str]:
        yield f"interrupt vectors at {base:08x}"
        raw = self.machine.vcpu.read_linear(base, min(limit, 0x3FF) + 1)
        for at in range(0, len(raw) - 3, 4):
            offset, segment = (int.from_bytes(raw[here : here + 2], "little") for here in (at, at + 2))
            yield f"{at // 4:02x}  {segment:04x}:{offset:04x}"


def number(arguments: list[str], usage: str) -> int:
    """The first argument, hexadecimal or with a prefix, at most 36 bits."""
    try:
        value = int(arguments[0], 16)
    except (IndexError, ValueError):
        raise Refused(f"expected: monitor {usage} (hexadecimal)") from None
    if not 0 <= value < 1 << 36:
        raise Refused(f"{arguments[0]}: expected at most 36 bits")
    return value


def letters(value: int) -> str:
    return "".join(letter if value & bit else "-" for letter, bit in PTE_LETTERS) + ("-" if value & NX else "x")


def merged(pages: Iterable[Page]) -> Iterator[tuple[int, int, int]]:
    """Neighbouring pages of the same rights as ranges: first, end, rights."""
    first = end = rights = 0
    for page in pages:
        if page.linear != end or page.rights != rights or first == end:
            if first != end:
                yield first, end, rights
            first, rights = page.linear, page.rights
        end = page.linear + page.bytes
    if first != end:
        yield first, end, rights


Handler = Callable[[Monitor, list[str]], Iterable[str]]
COMMANDS: dict[str, tuple[Handler, str]] = {
    "help": (Monitor.help, "this list"),
    "info registers": (Monitor.info_registers, "all but the FPU's, with the hidden and system ones"),
    "info mem": (Monitor.info_mem, "what the guest's page tables map, as ranges with rights"),
    "info pte": (Monitor.info_pte, "ADDRESS: the entries on the way to a linear address"),
    "info tlb": (Monitor.info_tlb, "what the shadow page table holds for this address space"),
    "info gdt": (Monitor.info_gdt, "segment descriptors and gates"),
    "info ldt": (Monitor.info_ldt, "the same of the local table"),
    "info idt": (Monitor.info_idt, "interrupt gates, or the real-mode vectors"),
    "info tss": (Monitor.info_tss, "the task state segment"),
    "info pic": (Monitor.info_pic, "the 8259 pair"),
    "info pit": (Monitor.info_pit, "the 8254's channels"),
    "info apic": (Monitor.info_apic, "the local APIC"),
    "info devices": (Monitor.info_devices, "every device's state"),
    "xp": (Monitor.physical, "ADDRESS [BYTES]: guest physical memory"),
    "reset": (Monitor.reset, "power-on state, program loaded again"),
    "quit": (Monitor.quit, "end the machine"),
}


def find(words: list[str]) -> tuple[Handler | None, list[str]]:
    """The command that the words begin with, and its arguments."""
    for length in (2, 1):
        row = COMMANDS.get(" ".join(words[:length]))
        if row is not None and len(words) >= length:
            return row[0], words[length:]
    return None, []
