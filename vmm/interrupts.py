"""The interrupt page from Python: drive lines, stop and step the clock, look at the controllers.

Controllers and timers live in the C core (vmm/core/interrupts.h says what each field is); this is a view onto the
page that they keep. Every method may be called from any thread. What makes a vCPU look up reaches the `kick` that the
page was given, as a mask of vCPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from vmm._core import ffi, lib
from vmm.layout_spec import InterruptPage
from vmm.layout_spec import NicFront as NicFrontState

NEVER = 0xFFFFFFFF_FFFFFFFF
LINES = 24  # 0..15 ISA IRQs, 16..23 I/O APIC pins of their own


class Event(IntFlag):
    """What a vCPU has to look at: enum intr_event."""

    EXT = lib.INTR_EXT
    NMI = lib.INTR_NMI
    INIT = lib.INTR_INIT
    SIPI = lib.INTR_SIPI


class ClockMode(IntEnum):
    """Who moves guest time: enum clock_mode."""

    HOST = lib.CLOCK_HOST
    COUNTED = lib.CLOCK_COUNTED


class Pm1(IntFlag):
    """PM1a status and enable bits: enum pm1_bit."""

    TMR = lib.PM1_TMR
    GBL = lib.PM1_GBL
    PWRBTN = lib.PM1_PWRBTN
    RTC = lib.PM1_RTC
    WAK = lib.PM1_WAK


def owned_ports() -> frozenset[int]:
    """I/O ports that the core answers itself, at fixed addresses; those at the power-management base come on top."""
    count = lib.intr_port_list(ffi.NULL, 0)
    ports = ffi.new("uint32_t[]", count)
    lib.intr_port_list(ports, count)
    return frozenset(ports)


@dataclass(frozen=True, slots=True)
class PicView:
    """One 8259A as a debugger shows it. Bit n is IRn."""

    irr: int
    isr: int
    imr: int
    elcr: int
    base: int


@dataclass(frozen=True, slots=True)
class ApicView:
    """One local APIC as a debugger shows it; vectors in falling priority."""

    enabled: bool
    tpr: int
    irr: tuple[int, ...]
    isr: tuple[int, ...]
    lvt: tuple[int, ...]
    events: Event


class Line:
    """One interrupt input, as devices want it: a level."""

    def __init__(self, interrupts: Interrupts, number: int) -> None:
        self.interrupts, self.number = interrupts, number

    def set_level(self, level: bool) -> None:
        self.interrupts.set_line(self.number, level)


class NicFront:
    """A PCnet's registers that the core answers, and not its rings. Whoever holds them may change all of `state`."""

    plan = None

    def __init__(self, interrupts: Interrupts, number: int) -> None:
        self.interrupts, self.number = interrupts, number
        self.state: NicFrontState = interrupts.state.nic[number]

    def hold(self) -> None:
        lib.nic_hold(self.interrupts.page, self.number)

    def give(self) -> None:
        """Let the core go on, and drive INTA# as `state` has it."""
        self.interrupts.kicked(lib.nic_give(self.interrupts.page, self.number))

    def wire(self, fd: int | None) -> None:
        """Nobody moves frames here."""

    def has_room(self) -> None:
        """Likewise."""


class Interrupts:
    """Interrupt controllers, timers and the guest clock of one machine."""

    def __init__(self, state: InterruptPage, kick: Callable[[int], None] = lambda mask: None) -> None:
        """Wire only. `kick` gets a mask of vCPUs (never 0) that must look at their events or deadlines."""
        self.state, self._kick = state, kick
        self.page = ffi.from_buffer("struct interrupts *", state, require_writable=True)

    def kicked(self, mask: int) -> None:
        """The core named vCPUs that must look."""
        if mask:
            self._kick(mask)

    # ---- power ----

    def power_on(self, vcpus: int, tsc_hz: int) -> None:
        """Everything as at power-on; the clock stands at 0 until `resume`."""
        lib.intr_power_on(self.page, vcpus, tsc_hz)

    def reset(self, vcpus: int) -> None:
        """RESET#: the clock goes on, and devices keep driving their lines."""
        lib.intr_reset(self.page, vcpus)

    def virtual_wire(self) -> None:
        """What PC firmware leaves: 8259 bases 08h and 70h, all masked, INTR passing through the boot vCPU's APIC."""
        lib.intr_virtual_wire(self.page)

    # ---- inputs ----

    def line(self, number: int) -> Line:
        if not 0 <= number < LINES:
            raise ValueError(f"interrupt line {number}: expected 0 to {LINES - 1}")
        return Line(self, number)

    def set_line(self, number: int, level: bool) -> None:
        """Drive an input. IRQ 0, 2, 8 and 9 have sources in the core too: 2 has no other, the rest are ORed."""
        self.kicked(lib.intr_set_line(self.page, number, int(level)))

    def nic(self, number: int) -> NicFront:
        """The front of a machine's PCnet, by its adapter's number."""
        if not 0 <= number < lib.RF_NICS:
            raise ValueError(f"network adapter {number}: expected 0 to {lib.RF_NICS - 1}")
        return NicFront(self, number)

    def raise_nmi(self) -> None:
        """The chipset's NMI: LINT1 of every vCPU."""
        self.kicked(lib.intr_raise_nmi(self.page))

    # ---- clock ----

    @property
    def now_ns(self) -> int:
        """Guest time, ns since power-on."""
        return int(lib.clock_now(self.page))

    @property
    def tsc(self) -> int:
        """The machine's time-stamp counter, before any vCPU's offset."""
        return int(lib.clock_tsc(self.page))

    def stun(self) -> None:
        """Stop guest time. The vCPUs have been stopped before."""
        lib.clock_stun(self.page, 1)

    def resume(self) -> None:
        """Let guest time go on from where it stopped: at power-on, after `stun`, after loading a state file."""
        lib.clock_stun(self.page, 0)

    def set_clock(self, mode: ClockMode, ns_per_1000: int = 1000) -> None:
        """HOST follows the host's clock; COUNTED moves `ns_per_1000` ns per 1000 retired instructions."""
        lib.clock_set_mode(self.page, int(mode), ns_per_1000)

    def advance(self, ns: int) -> None:
        """Let time pass on a counted clock."""
        lib.clock_advance(self.page, ns)

    # ---- RTC and power management: the registers are their devices', the counting is the core's ----

    def program_rtc(
        self, reg_a: int, reg_b: int, second_ns: int, alarm_ns: int = NEVER, alarm_period_ns: int = 0
    ) -> None:
        """Registers A and B, the guest time of the last full second, of the next alarm, and from it to the next."""
        self.kicked(lib.rtc_program(self.page, reg_a, reg_b, second_ns, alarm_ns, alarm_period_ns))

    def read_rtc_c(self) -> int:
        """Register C: IRQF, PF, AF, UF. Reading clears them and drops IRQ 8."""
        kick = ffi.new("uint32_t *")
        value = int(lib.rtc_read_c(self.page, kick))
        self.kicked(kick[0])
        return value

    def set_pm_base(self, port: int) -> None:
        """Where the power-management block is decoded; 0: nowhere. PM1a_CNT and the rest of it stay with its device."""
        self.kicked(lib.pm_set_base(self.page, port))

    def pm_event(self, bits: Pm1) -> None:
        """Set PM1a status bits: a power button, a wake-up."""
        self.kicked(lib.pm_event(self.page, int(bits)))

    def set_sci_enable(self, on: bool) -> None:
        """PM1a_CNT.SCI_EN changed."""
        self.kicked(lib.pm_set_sci_enable(self.page, int(on)))

    # ---- looking ----

    def can_wake(self, cpu: int) -> bool:
        """Does an event wait that reaches a vCPU halted with IF clear, or one that was never started?"""
        return bool(self.state.events[cpu] & (Event.NMI | Event.INIT | Event.SIPI))

    def pic(self, number: int) -> PicView:
        """The master (0) or the slave (1)."""
        p = self.state.pic[number]
        level = p.elcr | (0x04 if number == 0 else 0)
        return PicView(p.lines & level | p.edges & ~level, p.isr, p.imr, p.elcr, p.base)

    def apic(self, cpu: int) -> ApicView:
        a = self.state.lapic[cpu]
        enabled = bool(a.base & 1 << 11 and a.svr & 1 << 8)
        events = Event(self.state.events[cpu] & 0xF)
        return ApicView(enabled, a.tpr, _vectors(a.irr), _vectors(a.isr), tuple(a.lvt), events)


def _vectors(words: list[int]) -> tuple[int, ...]:
    return tuple(v for v in range(255, -1, -1) if words[v >> 5] >> (v & 31) & 1)
