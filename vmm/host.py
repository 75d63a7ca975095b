"""What this host offers for direct execution, found out by trying it in a process of its own.

The process is a world that runs experiments instead of a guest (vmm/core/world_probe.c). Whatever becomes of it is a
finding too: a host that kills it, or lets it hang, does not offer what was under test.

Not looked at: whether the host's processor has an erratum that a guest could meet.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from ctypes import sizeof
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ringfence.errors import HostRefused
from vmm._core import lib
from vmm.engines.world_process import WorldProcess, shared_page, start
from vmm.host_offers_spec import HOST_OFFERS_VERSION, Gate, GateState, HostFinding, HostOffersPage, Offer, Verdict

LIMIT_S = 5.0  # the experiments take about 10 ms
ROLE = "probe="
KVM = "/dev/kvm"
SYSCTLS = Path("/proc/sys/vm")

TITLES: dict[Offer, str] = {
    Offer.CODE32: "32-bit code segments",
    Offer.SIGNALS: "signals out of 32-bit code",
    Offer.LDT: "segments by modify_ldt",
    Offer.DISPATCH: "catching of system calls",
    Offer.FILTER: "seccomp filters",
    Offer.CPUID_FAULT: "CPUID faulting",
    Offer.TSC_FAULT: "TSC trapping",
    Offer.UMIP: "UMIP",
    Offer.COSTS: "the costs",
}
REQUIRED = (Offer.CODE32, Offer.SIGNALS, Offer.LDT, Offer.DISPATCH, Offer.TSC_FAULT, Offer.FILTER)
BETTER_WITH = (Offer.CPUID_FAULT, Offer.UMIP)
GATES: dict[Gate, str] = {Gate.INT80: "int 0x80", Gate.SYSENTER: "sysenter", Gate.SYSCALL32: "syscall"}
GATE_WORDS: dict[GateState, str] = {
    GateState.UNTESTED: "not tested",
    GateState.CAUGHT: "caught",
    GateState.ABSENT: "faults",
    GateState.OPEN: "not caught",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the host offers something; `detail` says more, or why not."""

    offered: bool
    detail: str = ""


UNTESTED = Finding(False, "not tested")


@dataclass(frozen=True, slots=True)
class HostOffers:
    """Costs are 0 where they could not be measured; a limit that the host keeps to itself is None."""

    platform: Finding  # an x86-64 Linux host, and a build for it
    probe: str  # why the experiments did not come to their end; empty when they did
    code32: Finding
    signals: Finding
    ldt: Finding
    dispatch: Finding
    filter: Finding
    cpuid_fault: Finding
    tsc_fault: Finding
    umip: Finding
    int80: GateState
    sysenter: GateState
    syscall32: GateState
    kvm: Finding
    mmap_min_addr: int | None
    max_map_count: int | None
    cpus: int
    system_call_ns: int
    signal_ns: int
    map_page_ns: int

    def finding(self, offer: Offer) -> Finding:
        found: Finding = getattr(self, offer.name.lower())
        return found


@cache
def offers() -> HostOffers:
    """What there is; tried once in a process. Raises nothing: a host that refuses the experiments offers nothing."""
    return look(LIMIT_S)


def direct_missing(found: HostOffers) -> str | None:
    """Why direct execution is not possible, in one line; None when it is."""
    if not found.platform.offered:
        return f"direct execution needs an x86-64 Linux host: this is {found.platform.detail}"
    lacking = [offer for offer in REQUIRED if not found.finding(offer).offered]
    if not lacking:
        return None
    if found.probe:
        return f"direct execution cannot be tried here: {found.probe}"
    words = [f"{TITLES[offer]} ({found.finding(offer).detail})" for offer in lacking]
    return f"direct execution is not possible: this host lacks {', '.join(words)}"


def engine_name(found: HostOffers) -> str:
    """The engine that `auto` stands for on such a host."""
    return "interp" if direct_missing(found) else "direct"


def look(limit_s: float) -> HostOffers:
    """Try everything now; the experiments may take `limit_s` seconds."""
    page, ending = HostOffersPage(), "not tried"
    where = host_platform()
    if where.offered:
        page, ending = run_probe(limit_s)
    found = {offer.name.lower(): finding_of(page.found[offer]) for offer in (*REQUIRED, *BETTER_WITH)}
    gates = {gate: GateState(page.gate[gate]) for gate in Gate}
    if page.found[Offer.DISPATCH].error == 0 and gates[Gate.INT80] is not GateState.UNTESTED:
        found["dispatch"] = Finding(found["dispatch"].offered, gate_text(gates))
    return HostOffers(
        platform=where, probe=ending, **found,
        int80=gates[Gate.INT80], sysenter=gates[Gate.SYSENTER], syscall32=gates[Gate.SYSCALL32],
        kvm=kvm(), mmap_min_addr=sysctl("mmap_min_addr"), max_map_count=sysctl("max_map_count"),
        cpus=len(os.sched_getaffinity(0)),
        system_call_ns=page.system_call_ns, signal_ns=page.signal_ns, map_page_ns=page.map_page_ns,
    )  # fmt: skip


# ---- the probe -------------------------------------------------------------------------------------------------------


def run_probe(limit_s: float) -> tuple[HostOffersPage, str]:
    """What it wrote, and why it did not come to its end, or nothing."""
    try:
        fd, mapping = shared_page(sizeof(HostOffersPage))
        try:
            process = start(fd, [], ROLE)
        finally:
            os.close(fd)
    except HostRefused as error:
        return HostOffersPage(), str(error)
    try:
        in_time = process.wait(limit_s)
    finally:
        process.end()
    with mapping:
        page = HostOffersPage.from_buffer_copy(mapping)
    return page, ending(page, process, limit_s if not in_time else None)


def ending(page: HostOffersPage, process: WorldProcess, overrun_s: float | None) -> str:
    if page.version == HOST_OFFERS_VERSION and page.under_test == len(Offer):
        return ""
    what = TITLES[Offer(page.under_test)] if page.version == HOST_OFFERS_VERSION else "whether it starts"
    if overrun_s is not None:
        return f"probe did not end within {overrun_s:g} s while testing {what}"
    status = process.ended or 0
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"probe ended by signal {number} ({signal.strsignal(number)}) while testing {what}"
    return f"probe ended while testing {what}: {process.why()}"


def finding_of(found: HostFinding) -> Finding:
    if found.verdict == Verdict.YES:
        return Finding(True)
    if found.verdict == Verdict.UNTESTED:
        return UNTESTED
    if found.error < 0:
        return Finding(False, os.strerror(-found.error))
    if found.signal:
        return Finding(False, f"signal {found.signal}, trap {found.trap} came of it")
    return Finding(False, "no effect")


def gate_text(gates: dict[Gate, GateState]) -> str:
    return ", ".join(f"{name} {GATE_WORDS[gates[gate]]}" for gate, name in GATES.items())


# ---- what needs no experiment ----------------------------------------------------------------------------------------


def host_platform() -> Finding:
    """Its processor and kernel. The world executable is only in builds for x86-64 Linux."""
    what = f"{platform.machine()}, {platform.system()} {platform.release()}"
    if sys.platform == "linux" and platform.machine() == "x86_64" and lib.world_image_size == 0:
        return Finding(False, f"{what}, but a build without world executable")
    return Finding(bool(lib.world_image_size), what)


def kvm() -> Finding:
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Finding(False, "absent")
    except OSError as error:
        return Finding(False, f"cannot be opened: {error.strerror}")
    return Finding(True)


def sysctl(name: str) -> int | None:
    try:
        return int((SYSCTLS / name).read_text())
    except (OSError, ValueError):
        return None
