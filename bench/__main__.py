"""`python -m bench`: Ringfence beside its peers in one run; the table, and bench/results.json.

Exit status: 0; 1 when a row is an error (a wrong checksum, a failed run) or a must was missed; 2 for wrong options.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.status import Status

from bench import (
    compute,
    devices,
    disk_commit,
    disk_guest,
    disks,
    kernel,
    linux,
    linux_user,
    net,
    switch,
    transit,
    vmfs,
    vmfs_guest,
    vmfs_write,
)
from bench.clocks import check_clock
from bench.engines import USUAL, Engines, find_engines
from bench.host import LOAD_MAX, host_facts, load_average
from bench.peers import Peers, find_peers
from bench.plan import FULL, QUICK, Plan, Say
from bench.rows import Verdict
from bench.table import print_table
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError

RESULTS = Path(__file__).with_name("results.json")

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 130

MEASURES: dict[str, Callable[[Plan], None]] = {
    "compute": compute.measure,
    "nano": kernel.measure_nano,
    "syscalls": kernel.measure_syscalls,
    "transit": transit.measure,
    "devices": devices.measure,
    "linux": linux.measure,
    "linux_user": linux_user.measure,
    "switch": switch.measure,
    "net": net.measure,
    "disks": disks.measure,
    "disk_commit": disk_commit.measure,
    "disk_guest": disk_guest.measure,
    "vmfs": vmfs.measure,
    "vmfs_write": vmfs_write.measure,
    "vmfs_guest": vmfs_guest.measure,
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description="Ringfence beside its peers on the same code.")
    top.add_argument("--quick", action="store_true", help="one short repetition: does it work, not how fast is it")
    top.add_argument("--only", action="append", choices=MEASURES, help="one measure; may be repeated")
    top.add_argument("--repeat", type=positive, metavar="N", help=f"repetitions ({FULL.repetitions})")
    top.add_argument(
        "--engine", action="append", metavar="NAME",
        help=f"one of ours; may be repeated, and the others are held against the first ({', '.join(USUAL)})",
    )  # fmt: skip
    top.add_argument("--json", action="store_true", help="the rows and all facts as JSON, and no table")
    top.add_argument(
        "--output", type=Path, metavar="FILE", help="write them here (default, of a whole run: bench/results.json)"
    )
    return top


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every command of ours would compile itself anew
    console = Console(stderr=True)
    facts = host_facts()
    warn_of_load(console)
    peers = find_peers()
    try:
        engines = find_engines(options.engine)
        plan = new_plan(options, engines, peers, lambda text: None)
        for missing in (*peers.missing, *engines.missing):
            console.print(f"left out: {missing.name}: {missing.reason}", markup=False, highlight=False, soft_wrap=True)
        with console.status("") as status:
            plan.say = progress(console, status)
            run(plan, options.only or list(MEASURES))
    except RingfenceError as error:
        console.print(f"bench: {error}", markup=False, highlight=False, soft_wrap=True)
        return STATUS_BAD_INPUT
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    document = results(plan, engines, facts)
    publish(options, plan, document)
    for text in plan.notes:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    for text in plan.errors:
        console.print(f"error: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    warn_of_load(console)
    missed = any(row.verdict() is Verdict.MISSED for row in plan.rows)
    return 1 if plan.errors or missed else 0


def new_plan(options: argparse.Namespace, engines: Engines, peers: Peers, say: Say) -> Plan:
    effort = QUICK if options.quick else FULL
    if options.repeat:
        effort = effort.repeated(options.repeat)
    ours, *others = engines.here
    return Plan(ours, peers, effort, say, others=tuple(others))


def progress(console: Console, status: Status) -> Say:
    """A status line on a terminal, nothing in a pipe."""

    def say(text: str) -> None:
        if console.is_terminal:
            status.update(text)

    return say


def run(plan: Plan, measures: list[str]) -> None:
    """The clocks, then each measure."""
    for peer in (*plan.engines, *plan.peers.emulators()):
        plan.say(f"clock of {peer.name}")
        try:
            plan.clocks[peer.name] = check_clock(peer)
        except RunFailed as error:
            plan.errors.append(f"{peer.name}: {error}")
    for name in measures:
        try:
            MEASURES[name](plan)
        except RunFailed as error:
            plan.errors.append(f"{name}: {error}")


def results(plan: Plan, engines: Engines, facts: dict[str, object]) -> dict[str, object]:
    """The document: what the host was, what the clocks are, every sample, and the rows."""
    clocks = {
        peer.name: {"guest_clock": peer.clock, "guest_over_host": round(plan.clocks[peer.name].agreement, 4),
                    "measured_by": "guest" if plan.follows_host(peer) else "host, difference of two runs"}
        for peer in plan.guest_peers()
    }  # fmt: skip
    load = {"load_at_end": round(load_average(), 2), "repetitions": plan.effort.repetitions}
    versions = {engine.name: engine.version() for engine in plan.engines} | plan.peers.versions()
    return {
        "host": {**facts, **load},
        "versions": versions,
        "clocks": clocks,
        "missing": {missing.name: missing.reason for missing in (*plan.peers.missing, *engines.missing)},
        "errors": plan.errors,
        "rows": [row.as_json() for row in plan.rows],
        "samples": {key: [float(f"{value:.6g}") for value in values] for key, values in plan.samples.items()},
    }


def publish(options: argparse.Namespace, plan: Plan, document: dict[str, object]) -> None:
    text = json.dumps(document, indent=1) + "\n"
    whole = not options.quick and not options.only
    target = options.output or (RESULTS if whole else None)
    if target is not None:
        target.write_text(text, encoding="utf-8")
    if options.json:
        sys.stdout.write(text)
    else:
        print_table(plan.rows)
        for name, check in plan.clocks.items():
            by = "its guest's clock" if check.follows_host else "the host's clock, as differences of two runs"
            print(f"{name}: guest time / host time {check.agreement:.3f}; measured by {by}")


def warn_of_load(console: Console) -> None:
    """Loudly: what is measured beside other work is not what is claimed."""
    load = load_average()
    if load > LOAD_MAX:
        console.print(
            f"WARNING: the load average is {load:.2f}. These numbers are worthless as a record; wait until it is below "
            f"{LOAD_MAX:.1f}.", style="bold red", highlight=False, soft_wrap=True,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
