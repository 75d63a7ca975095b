"""Engines beside each other: who takes part, who is held against whom, and what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import compute, engines, kernel, transit
from bench.clocks import ClockCheck
from bench.devices import EXITS, add_exit_rows, exit_row
from bench.engines import NO_SLOWER, USUAL, find_engines, refusal
from bench.kernel import NANO, SYSCALLS, Guest, measure_guest
from bench.peers import Attached, Bochs, GuestPeer, Native, Peers, Ringfence, Tcg
from bench.plan import QUICK, Plan
from bench.rows import Better, Verdict, compare, compare_runs
from bench.transcript import Line, RunFailed, Transcript
from ringfence.errors import BadOption

INTERP, DIRECT, TCG = Ringfence("interp"), Ringfence("direct"), Tcg()
NO_PEERS = Peers(native=None, tcg=None, bochs=None, unicorn=False, missing=())
FOLLOWS, ASTRAY = ClockCheck(1.0, {}), ClockCheck(0.5, {})


def plan(*ours: Ringfence, peers: Peers = NO_PEERS, repetitions: int = 1) -> Plan:
    made = Plan(ours[0], peers, QUICK.repeated(repetitions), lambda text: None, others=ours[1:])
    made.clocks = {peer.name: FOLLOWS for peer in (*made.engines, *peers.emulators())}
    return made


def says(**lines: str) -> Transcript:
    """A guest that printed WORD with these fields."""
    return Transcript(0, tuple(Line(n, f"{word} {rest}") for n, (word, rest) in enumerate(lines.items())))


# who takes part


def test_an_engine_that_nobody_asked_for_and_the_host_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "refusal", lambda engine: "no LDT" if engine.engine == "direct" else "")
    found = find_engines(None)
    assert [engine.engine for engine in found.here] == [name for name in USUAL if name != "direct"]
    assert [(missing.name, missing.reason) for missing in found.missing] == [("Ringfence direct", "no LDT")]
    with pytest.raises(BadOption, match="direct: no LDT"):
        find_engines(["interp", "direct"])


def test_engines_take_part_once_and_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "refusal", lambda engine: "")
    assert [engine.engine for engine in find_engines(["b", "a", "b"]).here] == ["b", "a"]


def test_an_engine_that_is_not_known_is_refused_and_interp_is_not() -> None:
    assert "expected one of" in refusal(Ringfence("no-such-engine"))
    assert refusal(INTERP) == ""


# who is held against whom


def test_each_engine_is_held_against_the_emulators_and_the_others_against_the_first() -> None:
    made = plan(INTERP, DIRECT)
    assert made.pairs([INTERP, DIRECT, TCG]) == [(INTERP, TCG), (DIRECT, TCG), (DIRECT, INTERP)]
    assert made.pairs([DIRECT, TCG]) == [(DIRECT, TCG)]
    assert plan(INTERP).pairs([INTERP]) == []


def test_rows_of_a_guest_carry_the_engines_name_and_what_is_asked_of_it() -> None:
    printed = {INTERP.name: 100.0, DIRECT.name: 120.0, TCG.name: 50.0}

    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        return says(NANO=f"in 1.00 {printed[peer.name]}")

    made = plan(INTERP, DIRECT, peers=replace(NO_PEERS, tcg=TCG))
    assert measure_guest(made, replace(NANO, run=run), 10) == ["in"]
    assert [(row.measure, row.peer_name, row.ratio, row.verdict()) for row in made.rows] == [
        ("interp.nano.in", TCG.name, 0.5, Verdict.NONE),
        ("direct.nano.in", TCG.name, pytest.approx(0.4167, rel=1e-3), Verdict.BELOW),
        ("direct.nano.in", INTERP.name, pytest.approx(0.8333, rel=1e-3), Verdict.MISSED),
    ]


def test_an_engine_that_fails_is_an_error_and_the_other_goes_on() -> None:
    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        if peer is DIRECT:
            raise RunFailed("the world died")
        return says(SYSCALL="int 1000 1000")

    made = plan(INTERP, DIRECT, peers=replace(NO_PEERS, tcg=TCG))
    measure_guest(made, replace(SYSCALLS, run=run), 10)
    assert made.errors == ["syscalls: Ringfence direct: the world died"]
    assert [row.measure for row in made.rows] == ["interp.syscalls.int"]


def test_who_is_timed_by_the_host() -> None:
    made = plan(INTERP, DIRECT, peers=replace(NO_PEERS, tcg=TCG))
    everyone: list[GuestPeer] = [INTERP, DIRECT, TCG]
    assert kernel.timed_by_host(made, everyone) == []
    made.clocks[TCG.name] = ASTRAY
    assert kernel.timed_by_host(made, everyone) == everyone
    bochs: list[GuestPeer] = [INTERP, DIRECT, Bochs(), TCG]
    made.clocks |= {TCG.name: FOLLOWS, Bochs.name: ASTRAY}
    assert kernel.timed_by_host(made, bochs) == bochs[:3]
    made.clocks |= {Bochs.name: FOLLOWS, DIRECT.name: ASTRAY}
    assert kernel.timed_by_host(made, bochs) == bochs


# what is asked


def test_targets_of_compute() -> None:
    assert compute.asked(DIRECT, Native.name) == (0.952, 0.99)
    assert compute.asked(DIRECT, Tcg.name) == (5.0, 9.0)
    assert compute.asked(INTERP, Native.name) == (0.033, 0.067)
    assert compute.asked(Ringfence("world"), INTERP.name) == (NO_SLOWER, None)
    assert compute.asked(Ringfence("world"), Native.name) == (None, None)


def test_the_mean_row_is_the_geometric_mean_of_each_column() -> None:
    rows = [compare("a", "MIPS", Better.HIGH, 1, 4, "p"), compare("b", "MIPS", Better.HIGH, 4, 1, "p")]
    mean = compute.mean_row("m", rows, "p", 1.0, None)
    assert (mean.ours, mean.peer, mean.ratio, mean.verdict()) == (2, 2, 1, Verdict.MUST)


def test_an_exit_may_cost_five_microseconds_more_than_the_references() -> None:
    assert exit_row("d.x", DIRECT, INTERP, 8.9, 4.0).verdict() is Verdict.AIM
    assert exit_row("d.x", DIRECT, INTERP, 9.1, 4.0).verdict() is Verdict.BELOW
    assert exit_row("d.x", DIRECT, INTERP, 9.1, 4.0).unit == "us"


def test_exits_are_told_in_microseconds_beside_the_reference_and_discs_are_not() -> None:
    made = plan(INTERP, DIRECT)
    for name, rate in (("uart_read", 250_000.0), ("cdrom_dma", 200.0)):
        made.keep(f"devices.{name}", INTERP.name, rate)
        made.keep(f"devices.{name}", DIRECT.name, rate / 2)
    guest = replace(NANO, name="devices", unit=lambda name: "MB/s" if name == "cdrom_dma" else EXITS)
    add_exit_rows(made, guest, ["uart_read", "cdrom_dma"])
    assert [(row.measure, row.ours, row.peer, row.peer_name) for row in made.rows] == [
        ("direct.devices.uart_read", 8.0, 4.0, INTERP.name)
    ]


def test_repetitions_made_in_turn_are_compared_one_by_one() -> None:
    ours, theirs = [100.0, 220.0, 330.0], [50.0, 100.0, 150.0]
    row = compare_runs("m", "ns", Better.LOW, ours, theirs, "p")
    assert (row.ours, row.peer, row.ratio) == (220, 100, 0.4545)
    assert compare_runs("m", "ns", Better.LOW, ours, [110.0], "p").ratio == 0.5  # of medians
    assert compare_runs("m", "ns", Better.HIGH, [1.0, 0.0, 3.0], [2.0, 2.0, 2.0], "p").ratio == 0.5


# crossings


class Crosses(Ringfence):
    """An engine whose guest says what it is told to."""

    def __init__(self, engine: str, ns: float) -> None:
        super().__init__(engine)
        self.ns, self.asked = ns, list[str]()

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        self.asked.append(command_line)
        lines = ["stretch 20000.00", f"device_port {self.ns:.2f}"] if "only=" in command_line else [
            "stretch 20000.00", "syscall_int 0.00", f"device_port {self.ns:.2f}"
        ]  # fmt: skip
        return Transcript(0, tuple(Line(n, f"TRANSIT {line}") for n, line in enumerate(lines)))


def test_crossings_are_absolute_and_exits_are_held_against_the_reference() -> None:
    slow, fast = Crosses("direct", 12_000), Crosses("interp", 4_000)
    made = plan(fast, slow)
    transit.measure(made)
    assert slow.asked == ["count=100", f"count=20 stretch={transit.ASLEEP_US} only=device_port"]
    assert [(row.measure, row.unit, row.ours, row.peer) for row in made.rows] == [
        ("interp.transit.syscall_int", "ns", 0, None),
        ("interp.transit.device_port", "ns", 4000, None),
        (f"interp.transit.{transit.ASLEEP}", "ns", 4000, None),
        ("direct.transit.syscall_int", "ns", 0, None),
        ("direct.transit.device_port", "ns", 12000, None),
        ("direct.transit.device_port", "us", 12, 4),
        (f"direct.transit.{transit.ASLEEP}", "ns", 12000, None),
        (f"direct.transit.{transit.ASLEEP}", "us", 12, 4),
    ]


def test_the_guest_names_every_crossing() -> None:
    spans = INTERP.run("transit", "count=20").spans("TRANSIT")
    assert [span.fields[0] for span in spans] == [
        "stretch", "syscall_int", "syscall_sysenter", "refused", "pgfault", "core_port", "device_port",
        "fresh", "known", "switch", "rdtsc",
    ]  # fmt: skip
    assert float(spans[0].fields[1]) > 1000
    assert all(float(span.fields[1]) >= 0 for span in spans)


def test_a_peer_whose_clock_is_astray_takes_part_in_fewer_repetitions() -> None:
    ran: list[str] = []

    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        ran.append(peer.name)
        return Transcript(0, (Line(count, "SYSCALL int 1000 1000"),))

    bochs = Bochs()
    made = plan(INTERP, peers=replace(NO_PEERS, bochs=bochs), repetitions=4)
    made.effort = replace(made.effort, by_host_repetitions=2)
    made.clocks[bochs.name] = ASTRAY
    measure_guest(made, replace(SYSCALLS, run=run), 100)
    long_and_short = [INTERP.name] * 2 + [bochs.name] * 2
    assert ran == long_and_short * 2 + [INTERP.name] * 2
    assert [(row.measure, row.peer_name) for row in made.rows] == [("interp.syscalls.int", bochs.name)]


def test_our_engines_go_on_beside_each_other() -> None:
    ran: list[str] = []

    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        ran.append(peer.name)
        return Transcript(0, (Line(count, "SYSCALL int 1000 1000"),))

    made = plan(INTERP, DIRECT, peers=replace(NO_PEERS, tcg=TCG), repetitions=1)
    made.effort = replace(made.effort, pair_repetitions=3, pair_repetitions_most=3)
    measure_guest(made, replace(SYSCALLS, run=run), 100)
    assert ran == [INTERP.name, DIRECT.name, TCG.name] + [INTERP.name, DIRECT.name] * 2
    assert len(made.kept("syscalls.int", DIRECT.name)) == 3
