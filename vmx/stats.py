"""`--stats`: what a run was made of.

Direct execution is judged by the shares of user and system mode: only the former runs at native speed.
"""

from __future__ import annotations

from vmm._core import ffi
from vmm.layout_spec import RunStats
from vmm.vcpu import RING_COUNT, ExitKind
from vmx.dump import VECTOR_NAMES

TABLE_COUNTERS = (
    ("true_faults", "page faults the guest's own"),
    ("hidden_faults", "hidden page faults (shadow fills)"),
    ("tlb_fills", "micro TLB fills"),
    ("tlb_flushes", "micro TLB flushes"),
    ("cr3_loads", "CR3 loads"),
    ("spt_kept", "shadow tables kept at them"),
    ("spt_dropped", "shadow tables dropped at them"),
    ("trace_hits", "stores to traced page tables"),
    ("blocks_decoded", "blocks decoded"),
    ("block_lookups", "block lookups"),
    ("code_writes", "stores that dropped code"),
    ("polls", "event polls"),
    ("interrupts", "interrupts delivered"),
)

DIRECT_COUNTERS = (
    ("direct_hidden", "hidden faults"),
    ("direct_faults", "exceptions"),
    ("direct_privileged", "of them privileged or selectors"),
    ("direct_calls", "system calls caught"),
    ("direct_kicks", "kicks and timer signals"),
    ("direct_traced", "stores to traced pages"),
    ("direct_longer", "waits lengthened: it did not pay"),
    ("direct_shorter", "waits shortened: it paid"),
    ("direct_retrials", "waits shortened to try again"),
    ("direct_trusted", "pages trusted with younger instructions"),
    ("window_maps", "window mappings"),
    ("window_pages", "pages mapped by them"),
    ("window_unmaps", "window pages taken out"),
    ("window_switches", "windows emptied for another space"),
    ("crew_turns", "hand-overs between windows"),
)
DECLINES = {
    value: name.removeprefix("DECLINE_").lower()
    for name, value in ffi.typeof("enum decline").relements.items()
    if name.startswith("DECLINE_")
}


def stats_text(stats: RunStats, seconds: float) -> str:
    """A report of one vCPU's counters over `seconds` of host time."""
    insns, user = int(stats.insns), int(stats.insns_user)
    halted = stats.ns_halted / 1e9
    busy = max(seconds - halted, 1e-9)
    running_ns = max(stats.ns_user + stats.ns_system, 1)
    lines = [
        f"instructions        {insns:,}",
        f"time                {seconds:.3f} s, of it halted {halted:.3f} s",
        f"speed               {insns / busy / 1e6:.1f} MIPS while not halted",
        share("user mode", user, insns, stats.ns_user, running_ns),
        share("system mode", insns - user, insns, stats.ns_system, running_ns),
        "exits               " + listing({kind.name: int(stats.exits[kind]) for kind in ExitKind}),
        "exceptions          " + listing({VECTOR_NAMES.get(v, str(v)): int(n) for v, n in enumerate(stats.exceptions)}),
    ]
    lines += ring_matrix([int(value) for value in stats.transitions])
    lines += [f"{text:34} {int(getattr(stats, name)):,}" for name, text in TABLE_COUNTERS]
    lines += direct_lines(stats)
    return "\n".join(lines)


def direct_lines(stats: RunStats) -> list[str]:
    """Direct execution: how long, how often, and why not; nothing where there was none and none was looked for."""
    declines = listing({DECLINES.get(why, str(why)): int(n) for why, n in enumerate(stats.direct_declines)})
    if not stats.direct_bursts and declines == "none":
        return []
    stays = listing({f"ring {ring}": int(n) for ring, n in enumerate(stats.direct_stays)})
    return [
        f"direct execution    {stats.ns_direct / 1e9:.3f} s in {int(stats.direct_bursts):,} bursts",
        f"stays               {stays}",
        f"declined            {declines}",
        *(f"  {text:32} {int(getattr(stats, name)):,}" for name, text in DIRECT_COUNTERS),
    ]


def ring_matrix(transitions: list[int]) -> list[str]:
    """Transitions between rings: a row for the ring left, a column for the ring entered."""
    lines = ["ring transitions    " + "".join(f"{'to ' + str(to):>12}" for to in range(RING_COUNT))]
    for origin in range(RING_COUNT):
        row = transitions[origin * RING_COUNT : (origin + 1) * RING_COUNT]
        lines.append(f"       from {origin}       " + "".join(f"{count or '.':>12}" for count in row))
    return lines


def listing(counts: dict[str, int]) -> str:
    """`IO 12, HLT 3`: what is not zero, the most frequent first."""
    rows = sorted(((count, name) for name, count in counts.items() if count), reverse=True)
    return ", ".join(f"{name} {count:,}" for count, name in rows) or "none"


def share(mode: str, insns: int, all_insns: int, ns: int, all_ns: int) -> str:
    return f"{mode:20}{percent(insns, all_insns)} of instructions, {percent(ns, all_ns)} of time"


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"
