"""The board that the interrupt tests drive: ports and memory in, vectors out, a clock that is stepped."""

from __future__ import annotations

from vmm._core import ffi, lib
from vmm.interrupts import ClockMode, Interrupts
from vmm.layout_spec import InterruptPage

TSC_HZ = 1_000_000_000
PIT_HZ = int(lib.RF_PIT_HZ)
APIC_PAGE = 0xFEE00000
IOAPIC_PAGE = 0xFEC00000
MSR_ENABLED = APIC_PAGE | 0x900
NEVER = 0xFFFFFFFF_FFFFFFFF
EXT, NMI, INIT, SIPI = 1, 2, 4, 8


class Board:
    """A machine without processors. `kicked` collects the masks that accesses and lines returned."""

    def __init__(self, vcpus: int = 1, state: InterruptPage | None = None) -> None:
        self.state = InterruptPage() if state is None else state
        self.interrupts = Interrupts(self.state, self._kick)
        self.page = self.interrupts.page
        self.kicked = 0
        self.apic_base = [MSR_ENABLED] * 4
        self._value = ffi.new("uint32_t *")
        self._mask = ffi.new("uint32_t *")
        if state is None:
            self.interrupts.power_on(vcpus, TSC_HZ)
            self.interrupts.set_clock(ClockMode.COUNTED)
            self.interrupts.resume()

    def _kick(self, mask: int) -> None:
        self.kicked |= mask

    def take_kicks(self) -> int:
        mask, self.kicked = self.kicked, 0
        return mask

    def copy(self) -> Board:
        return Board(state=InterruptPage.from_buffer_copy(self.state))

    # ---- accesses ----

    def inb(self, port: int, size: int = 1, cpu: int = 0) -> int:
        assert lib.intr_port_read(self.page, cpu, port, size, self._value)
        return int(self._value[0])

    def outb(self, port: int, *values: int, size: int = 1, cpu: int = 0) -> None:
        for value in values:
            self._mask[0] = 0
            assert lib.intr_port_write(self.page, cpu, port, size, value, self._mask)
            self.kicked |= self._mask[0]

    def read(self, gpa: int, cpu: int = 0, size: int = 4) -> int:
        assert lib.intr_mmio_read(self.page, cpu, self.apic_base[cpu], gpa, size, self._value)
        return int(self._value[0])

    def write(self, gpa: int, value: int, cpu: int = 0, size: int = 4) -> None:
        self._mask[0] = 0
        assert lib.intr_mmio_write(self.page, cpu, self.apic_base[cpu], gpa, size, value, self._mask)
        self.kicked |= self._mask[0]

    def apic_read(self, register: int, cpu: int = 0) -> int:
        return self.read(APIC_PAGE + register, cpu)

    def apic_write(self, register: int, value: int, cpu: int = 0) -> None:
        self.write(APIC_PAGE + register, value, cpu)

    def ioapic_read(self, index: int) -> int:
        self.write(IOAPIC_PAGE, index)
        return self.read(IOAPIC_PAGE + 0x10)

    def ioapic_write(self, index: int, value: int) -> None:
        self.write(IOAPIC_PAGE, index)
        self.write(IOAPIC_PAGE + 0x10, value)

    def route(self, pin: int, entry: int, destination: int = 0) -> None:
        """Program a redirection entry, high half first."""
        self.ioapic_write(0x11 + 2 * pin, destination << 24)
        self.ioapic_write(0x10 + 2 * pin, entry)

    def send(self, low: int, destination: int = 0, cpu: int = 0) -> None:
        """A message from `cpu`: the interrupt command register."""
        self.apic_write(0x310, destination << 24, cpu)
        self.apic_write(0x300, low, cpu)

    def requests(self, cpu: int = 0, bank: int = 0x200) -> set[int]:
        """Vectors in IRR (200h), ISR (100h) or TMR (180h)."""
        words = [self.apic_read(bank + 0x10 * n, cpu) for n in range(8)]
        return {v for v in range(256) if words[v >> 5] >> (v & 31) & 1}

    # ---- lines and vectors ----

    def line(self, number: int, level: int) -> None:
        self.interrupts.set_line(number, bool(level))

    def edge(self, number: int) -> None:
        self.line(number, 0)
        self.line(number, 1)

    def pending(self, cpu: int = 0) -> int:
        return int(lib.intr_pending(self.page, cpu))

    def ack(self, cpu: int = 0) -> int:
        """INTA: the vector, or -1."""
        return int(lib.intr_acknowledge(self.page, cpu))

    def poll(self, cpu: int = 0) -> int:
        """What a processor with IF set does at a boundary: the vector, or -1."""
        return self.ack(cpu) if self.pending(cpu) & EXT else -1

    def take(self, event: int, cpu: int = 0) -> int:
        return int(lib.intr_take(self.page, cpu, event))

    # ---- time ----

    @property
    def now(self) -> int:
        return self.interrupts.now_ns

    def advance(self, ns: int) -> None:
        self.interrupts.advance(ns)

    def ticks(self, count: int) -> None:
        """Let `count` periods of the 8254's clock begin, from wherever in a period guest time is."""
        target = self.now * PIT_HZ // 10**9 + count
        self.advance(-(-target * 10**9 // PIT_HZ) - self.now)

    def timers(self, cpu: int = 0) -> int:
        """Expire what is due; the next deadline, ns."""
        self._mask[0] = 0
        deadline = int(lib.intr_timers(self.page, cpu, self.now, self._mask))
        self.kicked |= self._mask[0]
        return deadline

    def sleep(self, cpu: int = 0) -> int:
        """What a halted runner does: on to the next deadline. How long it slept, ns; -1 with no deadline."""
        deadline = self.timers(cpu)
        if deadline == NEVER:
            return -1
        slept = deadline - self.now
        self.advance(slept)
        self.timers(cpu)
        return slept

    # ---- what drivers do at start ----

    def init_pic(self, icw4: int = 0x01, master_mask: int = 0x00, slave_mask: int = 0x00) -> None:
        """Bases 20h and 28h, cascade on IR2."""
        self.outb(0x20, 0x11)
        self.outb(0x21, 0x20, 0x04, icw4)
        self.outb(0xA0, 0x11)
        self.outb(0xA1, 0x28, 0x02, icw4)
        self.outb(0x21, master_mask)
        self.outb(0xA1, slave_mask)

    def init_apic(self, cpu: int = 0) -> None:
        """Enabled, all local entries masked, flat logical identifier 1 << cpu."""
        self.apic_write(0xF0, 0x1FF, cpu)
        self.apic_write(0xD0, 1 << 24 + cpu, cpu)


def multiprocessor() -> Board:
    """Four vCPUs, APICs enabled, application processors started."""
    board = Board(vcpus=4)
    for cpu in range(4):
        board.init_apic(cpu)
        if cpu:
            board.send(0x4610, cpu)
            assert board.take(SIPI, cpu) == 0x10
    board.take_kicks()
    return board
