"""The boot of Linux as a measure: which lines count, and what becomes of packages that are not there."""

from __future__ import annotations

import pytest

from bench import linux
from bench.peers import Bochs, Peers, Ringfence, Tcg
from bench.plan import QUICK, Plan
from bench.rows import Verdict
from bench.transcript import Line, RunFailed, Transcript
from tests.guests.qemu import need_qemu
from tests.realguests.packages import PackagesUnavailable

SECOND = 1_000_000_000
FIRST = "[    0.000000] Linux version 6.1.0-50-686 (debian-kernel@lists.debian.org)"
LAST = "T: [4.89] ALL DONE"
INTERP, DIRECT = Ringfence("interp"), Ringfence("direct")


def booted(seconds: float) -> Transcript:
    """The kernel began two seconds after the command."""
    begin = 2 * SECOND
    end = begin + int(seconds * SECOND)
    return Transcript(0, (Line(SECOND, "SeaBIOS"), Line(begin, FIRST), Line(end, LAST), Line(end + 5, "reboot")))


def taking(times: dict[str, float]) -> dict[str, linux.Contender]:
    """Contenders that take so long from the kernel's first line."""
    return {name: lambda time=time: linux.seconds(booted(time)) for name, time in times.items()}  # type: ignore[misc]


def plan(*others: Ringfence) -> Plan:
    peers = Peers(native=None, tcg=Tcg(), bochs=None, unicorn=False, missing=())
    return Plan(INTERP, peers, QUICK, lambda text: None, others=others)


def test_the_time_is_between_the_kernels_first_line_and_the_scripts_last() -> None:
    assert linux.seconds(booted(3)) == {linux.KERNEL: 3, linux.COMMAND: 5}
    with pytest.raises(RunFailed, match="SeaBIOS"):
        linux.seconds(Transcript(0, (Line(1, "SeaBIOS"),)))


def test_only_the_scripts_own_line_ends_a_boot() -> None:
    assert linux.is_last(LAST)
    assert not any(map(linux.is_last, ("T: [4.70] userland", "DONE 1 passed, 0 failed", "# echo ALL DONE")))


def test_half_of_tcgs_speed_is_the_must(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan()
    times = {made.ours.name: 6.0, Tcg.name: 3.1}
    monkeypatch.setattr(linux, "boots", lambda plan: taking(times))
    linux.measure(made)
    assert [(row.measure, row.verdict()) for row in made.rows] == [
        ("interp.linux.kernel_to_shell", Verdict.MUST), ("interp.linux.command_to_shell", Verdict.NONE),
    ]  # fmt: skip
    assert made.rows[0].ratio == pytest.approx(0.5167, rel=1e-3)


def test_an_engine_is_held_against_our_reference_and_bochs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT)
    times = {INTERP.name: 4.4, DIRECT.name: 5.0, Tcg.name: 6.0, Bochs.name: 20.0}
    monkeypatch.setattr(linux, "boots", lambda plan: taking(times))
    linux.measure(made)
    rows = {row.peer_name: row for row in made.rows if row.measure == "direct.linux.kernel_to_shell"}
    assert {name: row.verdict() for name, row in rows.items()} == {
        INTERP.name: Verdict.MISSED, Tcg.name: Verdict.AIM, Bochs.name: Verdict.MUST,
    }  # fmt: skip
    assert rows[INTERP.name].must == 0.9
    of_interp = {row.peer_name for row in made.rows if row.measure == "interp.linux.kernel_to_shell"}
    assert of_interp == {Tcg.name, Bochs.name}


def test_a_contender_that_fails_is_an_error_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan()

    def fails() -> dict[str, float]:
        raise RunFailed("no such kernel")

    monkeypatch.setattr(linux, "boots", lambda plan: taking({INTERP.name: 1}) | {Tcg.name: fails})
    linux.measure(made)
    assert made.errors == [f"linux: {Tcg.name}: no such kernel"]
    assert made.rows == []
    assert made.kept("linux.kernel_to_shell", made.ours.name) == [1]


def test_without_the_packages_the_rows_are_left_out_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(plan: Plan) -> None:
        raise PackagesUnavailable("no network")

    monkeypatch.setattr(linux, "boots", unavailable)
    made = plan()
    linux.measure(made)
    assert (made.rows, made.errors, made.notes) == ([], [], ["left out: linux: no network"])


@pytest.mark.long
def test_linux_boots_here_and_on_tcg() -> None:
    need_qemu()
    made = plan()
    linux.measure(made)
    if made.notes:
        pytest.skip(made.notes[0])
    assert made.errors == []
    assert [row.measure for row in made.rows] == ["interp.linux.kernel_to_shell", "interp.linux.command_to_shell"]
