"""`ringfence host`: what this host offers for direct execution, and which engine follows from it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmm.host import Finding, HostOffers

DESCRIPTION = "Try what this host offers for direct execution, and say which engine follows."


def add_host_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence host [--json]`."""
    host = verbs.add_parser("host", help="what this host offers, and which engine follows", description=DESCRIPTION)
    host.add_argument("--json", action="store_true", help="as JSON")
    host.set_defaults(action=host_verb)


def host_verb(options: argparse.Namespace) -> int:
    from vmm.host import offers

    found = offers()
    print(host_json(found) if options.json else "\n".join(lines(found)))
    return 0


def host_json(found: HostOffers) -> str:
    from vmm.host import direct_missing, engine_name

    row = asdict(found)
    for gate in ("int80", "sysenter", "syscall32"):
        row[gate] = row[gate].name.lower()
    return json.dumps({"engine": engine_name(found), "missing": direct_missing(found), **row}, indent=2)


def lines(found: HostOffers) -> Iterator[str]:
    from vmm.host import BETTER_WITH, GATE_WORDS, REQUIRED, TITLES, direct_missing, engine_name
    from vmm.host_offers_spec import GateState

    yield line("x86-64 Linux", found.platform)
    for offer in REQUIRED:
        yield line(TITLES[offer], found.finding(offer))
    if found.int80 is GateState.ABSENT:
        yield row("int 0x80", "absent", "a guest's is an ordinary fault")
    elif found.int80 is not GateState.UNTESTED:
        yield row("int 0x80", "present", GATE_WORDS[found.int80])
    for offer in BETTER_WITH:
        yield line(TITLES[offer], found.finding(offer), lacking="better with it")
    if found.probe:
        yield row("experiments", "stopped", found.probe)
    yield line("/dev/kvm", found.kvm)
    yield row("vm.mmap_min_addr", number(found.mmap_min_addr))
    yield row("vm.max_map_count", number(found.max_map_count))
    yield row("usable CPUs", str(found.cpus))
    yield row("a system call", nanoseconds(found.system_call_ns))
    yield row("a #GP and back", nanoseconds(found.signal_ns))
    yield row("mapping a page", nanoseconds(found.map_page_ns))
    yield row("engine", engine_name(found), direct_missing(found) or "")


def line(title: str, found: Finding, lacking: str = "") -> str:
    words = [lacking, found.detail] if not found.offered else [found.detail]
    return row(title, "yes" if found.offered else "no", "; ".join(filter(None, words)))


def row(title: str, verdict: str, detail: str = "") -> str:
    return f"{title:<28}{verdict:<9}{detail}".rstrip()


def number(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def nanoseconds(value: int) -> str:
    return f"{value} ns" if value else "unknown"
