"""The structures that Python shares with the C core, as ctypes lays them over the same mappings.

The headers are the source: struct for struct and field for field these are vmm/core/core.h and interrupts.h, where each
field is explained. tests/vmm/test_layout.py compares every offset and size with cffi's view of the headers.
"""

from ctypes import LittleEndianStructure, c_int32, c_uint8, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

# ---- core.h ----------------------------------------------------------------------------------------------------------


class Segment(LittleEndianStructure):
    """struct segment."""

    _fields_ = [
        ("selector", c_uint32),
        ("base", c_uint32),
        ("limit", c_uint32),
        ("attr", c_uint32),
    ]


assert sizeof(Segment) == 16


class Dtable(LittleEndianStructure):
    """struct dtable."""

    _fields_ = [
        ("base", c_uint32),
        ("limit", c_uint32),
    ]


assert sizeof(Dtable) == 8


class VcpuState(LittleEndianStructure):
    """struct vcpu."""

    _fields_ = [
        ("r", c_uint32 * 9),
        ("eip", c_uint32),
        ("eflags", c_uint32),
        ("cpl", c_uint32),
        ("seg", Segment * 8),
        ("gdtr", Dtable),
        ("idtr", Dtable),
        ("cr0", c_uint32),
        ("cr2", c_uint32),
        ("cr3", c_uint32),
        ("cr4", c_uint32),
        ("dr", c_uint32 * 8),
        ("pdpte", c_uint64 * 4),
        ("efer", c_uint64),
        ("activity", c_uint32),
        ("inhibit", c_uint32),
        ("nmi_pending", c_uint32),
        ("nmi_blocked", c_uint32),
        ("init_pending", c_uint32),
        ("sipi_vector", c_uint32),
        ("pending_dr6", c_uint32),
        ("a20_mask", c_uint32),
        ("msr_tsc_offset", c_uint64),
        ("msr_apic_base", c_uint64),
        ("msr_sysenter_cs", c_uint32),
        ("msr_sysenter_esp", c_uint32),
        ("msr_sysenter_eip", c_uint32),
        ("vcpu_id", c_uint32),
        ("msr_pat", c_uint64),
        ("msr_misc_enable", c_uint64),
        ("msr_mtrr_def", c_uint64),
        ("msr_mtrr_fix", c_uint64 * 11),
        ("msr_mtrr_var", c_uint64 * 16),
        ("msr_mcg_status", c_uint64),
        ("msr_microcode", c_uint64),
        ("msr_debugctl", c_uint64),
        ("msr_ebl_cr_poweron", c_uint64),
        ("ignne", c_uint32),
        ("reserved_fpu", c_uint32),
        ("reserved", c_uint64 * 8),
        ("fx", c_uint8 * 512),
    ]


assert sizeof(VcpuState) == 1200


class Slot(LittleEndianStructure):
    """struct slot."""

    _fields_ = [
        ("first_ppn", c_uint32),
        ("pages", c_uint32),
        ("kind", c_uint32),
        ("in_dev", c_uint32),
        ("file_page", c_uint64),
        ("dirty_offset", c_uint64),
    ]


assert sizeof(Slot) == 32


class MachinePage(LittleEndianStructure):
    """struct machine."""

    _fields_ = [
        ("version", c_uint32),
        ("vcpus", c_uint32),
        ("ram_pages", c_uint64),
        ("dev_pages", c_uint64),
        ("stamps", c_uint64),
        ("codemap", c_uint64),
        ("flags", c_uint64),
        ("pmap", c_uint64),
        ("interrupts", c_uint64),
        ("slot_count", c_uint32),
        ("slot_generation", c_uint32),
        ("slots", Slot * 64),
        ("watch_epoch", c_uint64),
        ("changes", c_uint64),
    ]


assert sizeof(MachinePage) == 2136


class ExitInfo(LittleEndianStructure):
    """struct exit_info."""

    _fields_ = [
        ("kind", c_uint32),
        ("write", c_uint32),
        ("width", c_uint32),
        ("count", c_uint32),
        ("address", c_uint64),
        ("data", c_uint64 * 2),
        ("reason", c_uint32),
        ("vector", c_uint32),
        ("interruptible", c_uint32),
        ("string", c_uint32),
        ("buffer", c_uint8 * 1024),
    ]


assert sizeof(ExitInfo) == 1080


class RunStats(LittleEndianStructure):
    """struct run_stats."""

    _fields_ = [
        ("insns", c_uint64),
        ("insns_user", c_uint64),
        ("exits", c_uint64 * 16),
        ("transitions", c_uint64 * 16),
        ("ns_user", c_uint64),
        ("ns_system", c_uint64),
        ("ns_halted", c_uint64),
        ("interrupts", c_uint64),
        ("exceptions", c_uint64 * 32),
        ("true_faults", c_uint64),
        ("hidden_faults", c_uint64),
        ("tlb_fills", c_uint64),
        ("tlb_flushes", c_uint64),
        ("cr3_loads", c_uint64),
        ("spt_kept", c_uint64),
        ("spt_dropped", c_uint64),
        ("blocks_decoded", c_uint64),
        ("block_lookups", c_uint64),
        ("code_writes", c_uint64),
        ("trace_hits", c_uint64),
        ("polls", c_uint64),
        ("ns_direct", c_uint64),
        ("direct_bursts", c_uint64),
        ("direct_hidden", c_uint64),
        ("direct_traced", c_uint64),
        ("direct_faults", c_uint64),
        ("direct_privileged", c_uint64),
        ("direct_calls", c_uint64),
        ("direct_kicks", c_uint64),
        ("window_maps", c_uint64),
        ("window_pages", c_uint64),
        ("window_unmaps", c_uint64),
        ("window_switches", c_uint64),
        ("direct_declines", c_uint64 * 16),
        ("direct_stays", c_uint64 * 4),
        ("direct_longer", c_uint64),
        ("direct_shorter", c_uint64),
        ("direct_retrials", c_uint64),
        ("direct_trusted", c_uint64),
        ("crew_turns", c_uint64),
    ]


assert sizeof(RunStats) == 952


class TraceEvent(LittleEndianStructure):
    """struct trace_event."""

    _fields_ = [
        ("kind", c_uint32),
        ("what", c_uint32),
        ("eip", c_uint32),
        ("cs", c_uint32),
        ("value", c_uint32),
        ("extra", c_uint32),
        ("time_ns", c_uint64),
    ]


assert sizeof(TraceEvent) == 32


class ControlPage(LittleEndianStructure):
    """struct control."""

    _fields_ = [
        ("attention", c_uint32),
        ("running", c_uint32),
        ("halted", c_uint32),
        ("reserved1", c_uint32),
        ("quantum_us", c_uint32),
        ("single_step", c_uint32),
        ("trace_mask", c_uint32),
        ("trace_count", c_uint32),
        ("resume_breakpoint", c_uint32),
        ("shutdown", c_uint32),
        ("command", c_uint32),
        ("reserved0", c_uint32),
        ("exit", ExitInfo),
        ("stats", RunStats),
        ("trace", TraceEvent * 256),
        ("watched", c_uint64),
        ("direct", c_uint32),
        ("pid", c_int32),
        ("crew", c_int32 * 8),
        ("kick_fd", c_int32 * 8),
        ("before_turn", c_uint8 * 16),
        ("turn", c_uint32),
        ("after_turn", c_uint8 * 60),
    ]


assert sizeof(ControlPage) == 10432 and ControlPage.turn.offset % 64 == 0  # a cache line


class CpuidLeaf(LittleEndianStructure):
    """struct cpuid_leaf."""

    _fields_ = [
        ("leaf", c_uint32),
        ("subleaf", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
    ]


assert sizeof(CpuidLeaf) == 24


class CpuModel(LittleEndianStructure):
    """struct cpu_model."""

    _fields_ = [
        ("count", c_uint32),
        ("max_phys_bits", c_uint32),
        ("reserved", c_uint32 * 2),
        ("leaves", CpuidLeaf * 32),
    ]


assert sizeof(CpuModel) == 784


class WorldPage(LittleEndianStructure):
    """struct world_page."""

    _fields_ = [
        ("version", c_uint32),
        ("vcpu", c_uint32),
        ("vcpus", c_uint32),
        ("spin_ns", c_uint32),
        ("ram_fd", c_int32),
        ("dev_fd", c_int32),
        ("pages_fd", c_int32),
        ("state_fd", c_int32),
        ("control_fd", c_int32 * 4),
        ("ram_bytes", c_uint64),
        ("dev_bytes", c_uint64),
        ("pages_bytes", c_uint64),
        ("state_bytes", c_uint64),
        ("control_bytes", c_uint64),
        ("arena_bytes", c_uint64),
        ("interrupts_offset", c_uint64),
        ("vcpu_offset", c_uint64 * 4),
        ("status", c_int32),
        ("linear", c_uint32),
        ("length", c_uint32),
        ("kind", c_uint32),
        ("gpa", c_uint64),
        ("direct", c_uint32),
        ("reserved", c_uint32),
        ("model", CpuModel),
    ]


assert sizeof(WorldPage) == 952


# ---- interrupts.h ----------------------------------------------------------------------------------------------------


class Pic(LittleEndianStructure):
    """struct pic."""

    _fields_ = [
        ("lines", c_uint32),
        ("edges", c_uint32),
        ("isr", c_uint32),
        ("imr", c_uint32),
        ("elcr", c_uint32),
        ("base", c_uint32),
        ("icw3", c_uint32),
        ("icw_next", c_uint32),
        ("icw1", c_uint32),
        ("icw4", c_uint32),
        ("lowest", c_uint32),
        ("rotate_aeoi", c_uint32),
        ("special_mask", c_uint32),
        ("read_isr", c_uint32),
        ("poll", c_uint32),
        ("reserved", c_uint32),
    ]


assert sizeof(Pic) == 64


class PitChannel(LittleEndianStructure):
    """struct pit_channel."""

    _fields_ = [
        ("start", c_uint64),
        ("switch_tick", c_uint64),
        ("held", c_uint64),
        ("count", c_uint32),
        ("next_count", c_uint32),
        ("mode", c_uint32),
        ("bcd", c_uint32),
        ("access", c_uint32),
        ("write_high", c_uint32),
        ("write_low", c_uint32),
        ("read_high", c_uint32),
        ("latched", c_uint32),
        ("latched_count", c_uint32),
        ("status_latched", c_uint32),
        ("status", c_uint32),
        ("gate", c_uint32),
        ("idle", c_uint32),
        ("out_before", c_uint32),
        ("reserved", c_uint32),
    ]


assert sizeof(PitChannel) == 88


class Pit(LittleEndianStructure):
    """struct pit."""

    _fields_ = [
        ("channel", PitChannel * 3),
        ("irq_tick", c_uint64),
        ("line", c_uint32),
        ("backlog", c_uint32),
        ("lost", c_uint32),
        ("port61", c_uint32),
    ]


assert sizeof(Pit) == 288


class Lapic(LittleEndianStructure):
    """struct lapic."""

    _fields_ = [
        ("base", c_uint64),
        ("timer_next_ns", c_uint64),
        ("id", c_uint32),
        ("tpr", c_uint32),
        ("ldr", c_uint32),
        ("dfr", c_uint32),
        ("svr", c_uint32),
        ("esr", c_uint32),
        ("errors", c_uint32),
        ("icr_low", c_uint32),
        ("icr_high", c_uint32),
        ("lvt", c_uint32 * 6),
        ("timer_initial", c_uint32),
        ("timer_divide", c_uint32),
        ("timer_backlog", c_uint32),
        ("latches", c_uint32),
        ("sipi_vector", c_uint32),
        ("wait_sipi", c_uint32),
        ("reserved", c_uint32 * 3),
        ("isr", c_uint32 * 8),
        ("tmr", c_uint32 * 8),
        ("irr", c_uint32 * 8),
    ]


assert sizeof(Lapic) == 208


class Ioapic(LittleEndianStructure):
    """struct ioapic."""

    _fields_ = [
        ("id", c_uint32),
        ("select", c_uint32),
        ("pins", c_uint32),
        ("masked", c_uint32),
        ("level", c_uint32),
        ("remote_irr", c_uint32),
        ("low", c_uint32 * 24),
        ("high", c_uint32 * 24),
    ]


assert sizeof(Ioapic) == 216


class RtcTimers(LittleEndianStructure):
    """struct rtc_timers."""

    _fields_ = [
        ("periodic_tick", c_uint64),
        ("second_ns", c_uint64),
        ("alarm_ns", c_uint64),
        ("alarm_period_ns", c_uint64),
        ("rate", c_uint32),
        ("enable", c_uint32),
        ("flags", c_uint32),
        ("backlog", c_uint32),
    ]


assert sizeof(RtcTimers) == 48


class PmTimer(LittleEndianStructure):
    """struct pm_timer."""

    _fields_ = [
        ("toggles", c_uint64),
        ("base", c_uint32),
        ("status", c_uint32),
        ("enable", c_uint32),
        ("sci_enable", c_uint32),
    ]


assert sizeof(PmTimer) == 24


class GuestClock(LittleEndianStructure):
    """struct guest_clock."""

    _fields_ = [
        ("frozen_ns", c_uint64),
        ("offset_ns", c_uint64),
        ("tsc_hz", c_uint64),
        ("mode", c_uint32),
        ("stunned", c_uint32),
        ("ns_per_1000", c_uint32),
        ("remainder", c_uint32),
    ]


assert sizeof(GuestClock) == 40


class NicCause(IntEnum):
    """enum nic_cause: of a PCnet's interrupt, beside CSR0. SYSTEM counts whatever IENA is."""

    NONE = 0
    PLAIN = 1
    SYSTEM = 2


class NicFront(LittleEndianStructure):
    """struct nic_front."""

    _fields_ = [
        ("port", c_uint32),
        ("width", c_uint32),
        ("lines", c_uint32),
        ("held", c_uint32),
        ("rap", c_uint32),
        ("csr0", c_uint32),
        ("csr3", c_uint32),
        ("others", c_uint32),
        ("careful", c_uint32),
        ("unsaid", c_uint32),
        ("attended", c_uint32),
        ("waits", c_uint32),
        ("asserted", c_uint32),
        ("rings", c_uint32),
    ]


assert sizeof(NicFront) == 56


class NicRings(IntFlag):
    """enum nic_rings: descriptor rings of a PCnet that the core walks."""

    TRANSMIT = 1
    RECEIVE = 2


class NicAccepts(IntFlag):
    """enum nic_accepts: what a PCnet receives besides what its hashes pick."""

    UNICAST = 1
    BROADCAST = 2
    ALL = 4


class NicRing(LittleEndianStructure):
    """struct nic_ring."""

    _fields_ = [
        ("base", c_uint32),
        ("length", c_uint32),
        ("at", c_uint32),
        ("seen", c_uint32),
    ]


assert sizeof(NicRing) == 16


class NicPlan(LittleEndianStructure):
    """struct nic_plan."""

    _fields_ = [
        ("exchanged", c_uint32),
        ("pads", c_uint32),
        ("accepts", c_uint32),
        ("prompt", c_uint32),
        ("deferred", c_uint32),
        ("full", c_uint32),
        ("transmit", NicRing),
        ("receive", NicRing),
        ("hashes", c_uint64),
        ("address", c_uint8 * 8),
        ("sent", c_uint64),
        ("sent_octets", c_uint64),
        ("refused", c_uint64),
        ("received", c_uint64),
        ("received_octets", c_uint64),
        ("filtered", c_uint64),
    ]


assert sizeof(NicPlan) == 120


class InterruptPage(LittleEndianStructure):
    """struct interrupts."""

    _fields_ = [
        ("version", c_uint32),
        ("vcpus", c_uint32),
        ("lock", c_uint32),
        ("lines", c_uint32),
        ("events", c_uint32 * 4),
        ("sampled", c_uint32 * 4),
        ("next_ns", c_uint64 * 4),
        ("clock", GuestClock),
        ("pic", Pic * 2),
        ("pit", Pit),
        ("ioapic", Ioapic),
        ("lapic", Lapic * 4),
        ("rtc", RtcTimers),
        ("pm", PmTimer),
        ("pic_out", c_uint32),
        ("lowest_last", c_uint32),
        ("port80", c_uint32),
        ("portED", c_uint32),
        ("owed_kicks", c_uint32),
        ("nic_lines", c_uint32),
        ("nic_bell", c_uint32),
        ("nic_sleeps", c_uint32),
        ("nic_starved", c_uint32),
        ("reserved", c_uint32 * 3),
        ("nic", NicFront * 5),
    ]


assert sizeof(InterruptPage) == 1984


STRUCTURES: dict[str, type[LittleEndianStructure]] = {
    "struct segment": Segment,
    "struct dtable": Dtable,
    "struct vcpu": VcpuState,
    "struct slot": Slot,
    "struct machine": MachinePage,
    "struct exit_info": ExitInfo,
    "struct run_stats": RunStats,
    "struct trace_event": TraceEvent,
    "struct control": ControlPage,
    "struct cpuid_leaf": CpuidLeaf,
    "struct cpu_model": CpuModel,
    "struct world_page": WorldPage,
    "struct pic": Pic,
    "struct pit_channel": PitChannel,
    "struct pit": Pit,
    "struct lapic": Lapic,
    "struct ioapic": Ioapic,
    "struct rtc_timers": RtcTimers,
    "struct pm_timer": PmTimer,
    "struct guest_clock": GuestClock,
    "struct nic_front": NicFront,
    "struct nic_ring": NicRing,
    "struct nic_plan": NicPlan,
    "struct interrupts": InterruptPage,
}
