"""User programs in the Linux guest as a measure: which lines count, who is held against whom, and to what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import linux, linux_user
from bench.peers import Bochs, Native, Peers, Ringfence, Tcg
from bench.plan import FULL, QUICK, Effort, Plan
from bench.rows import Row, Verdict
from bench.transcript import Line, RunFailed, Transcript
from bench.turns import GO_ON
from tests.guests.qemu import need_qemu
from tests.realguests import iso, stress_program
from tests.realguests.packages import PackagesUnavailable

SECOND = 1_000_000_000
INTERP, DIRECT = Ringfence("interp"), Ringfence("direct")


def said(*lines: str) -> Transcript:
    """A line each second."""
    return Transcript(0, tuple(Line(number * SECOND, text) for number, text in enumerate(lines)))


def plan(*others: Ringfence, effort: Effort = QUICK, bochs: Bochs | None = None) -> Plan:
    peers = Peers(native=Native(), tcg=Tcg(), bochs=bochs, unicorn=False, missing=())
    return Plan(INTERP, peers, effort, lambda text: None, others=others)


def taking(seconds: dict[str, float], *loads: str) -> dict[str, linux.Contender]:
    """Contenders that take so long for each load."""
    measures = [f"linux.{load}" for load in loads]
    return {name: lambda took=took: dict.fromkeys(measures, took) for name, took in seconds.items()}  # type: ignore[misc]


def by_peer(made: Plan, measure: str) -> dict[str | None, Row]:
    return {row.peer_name: row for row in made.rows if row.measure == measure}


def test_a_load_lasts_from_its_first_line_to_its_last() -> None:
    found = linux_user.loads(
        said("T: [1.0] userland", "T: load begin sha256sum", "", "T: load end sha256sum abc", "T: load begin gzip",
             "T: load end gzip 17")
    )  # fmt: skip
    assert found == {"sha256sum": linux_user.Load(2, "abc"), "gzip": linux_user.Load(1, "17")}


@pytest.mark.parametrize("lines", [("T: load begin forks", "T: [9] ALL DONE"), ("T: [9] ALL DONE",)])
def test_a_load_without_an_end_fails_the_run(lines: tuple[str, ...]) -> None:
    with pytest.raises(RunFailed, match="no end"):
        linux_user.loads(said(*lines))


def test_a_load_does_not_last_while_it_waits_for_its_turn() -> None:
    turn = "T: load turn forks"
    found = linux_user.loads(said("T: load begin forks", turn, "", GO_ON, "", turn, GO_ON, "T: load end forks 20"))
    assert found == {"forks": linux_user.Load(4, "20")}
    assert linux_user.is_turn(turn) and not linux_user.is_turn("T: load end forks 20")


def forking(seconds: float) -> Transcript:
    """It waits as long before each of two parts."""
    half = int(seconds * SECOND) // 2
    texts = ("T: load begin forks", 0), ("T: load turn forks", 0), (GO_ON, half), ("T: load turn forks", half)
    lines, now = [], 0
    for text, took in (*texts, (GO_ON, half), ("T: load end forks 1000", half)):
        lines.append(Line(now := now + took, text))
    return Transcript(0, tuple(lines))


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_user, "boot_for_forks", lambda options: iso.Boot(Path(), Path(), options))
    monkeypatch.setattr(linux_user, "isolinux_disc", lambda boot: Path(boot.append))
    monkeypatch.setattr(linux_user.fetch, "seabios", Path)


@pytest.mark.usefixtures("no_packages")
def test_the_goals_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT, bochs=Bochs())
    times = {INTERP.name: 9.5, DIRECT.name: 10.0, Tcg.name: 8.0}
    monkeypatch.setattr(linux_user, "record_by_turns", lambda who, *rest, **how: {w: forking(times[w]) for w in who})
    monkeypatch.setattr(linux, "boot_bochs", lambda disc, vga: forking(30.0))
    linux_user.measure_forks(made)
    rows = by_peer(made, "direct.linux.forks")
    assert {name: row.verdict() for name, row in rows.items()} == {
        INTERP.name: Verdict.MUST, Tcg.name: Verdict.BELOW, Bochs.name: Verdict.MUST,
    }  # fmt: skip
    assert (rows[INTERP.name].must, rows[Bochs.name].must, rows[Tcg.name].aim) == (0.9, 1.0, 1.0)
    assert rows[INTERP.name].ratio == 0.95
    assert by_peer(made, "interp.linux.forks").keys() == {Tcg.name, Bochs.name}


@pytest.mark.usefixtures("no_packages")
def test_our_engines_take_turns_until_their_ratio_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = replace(QUICK, boots=2, pair_boots=3, pair_boots_most=9)
    made = plan(DIRECT, effort=effort)
    who: list[tuple[str, ...]] = []

    def recorded(commands: dict[str, list[str]], *limits: float, **how: object) -> dict[str, Transcript]:
        who.append(tuple(commands))
        slow = 1 + (len(who) < 3) / 2
        return {name: forking(10 * slow if name == DIRECT.name else 10) for name in commands}

    monkeypatch.setattr(linux_user, "record_by_turns", recorded)
    linux_user.measure_forks(made)
    engines = (INTERP.name, DIRECT.name)
    assert who[:2] == [(*engines, Tcg.name)] * 2
    assert 3 < len(who) <= 9 and set(who[2:]) == {engines}
    monkeypatch.setattr(linux_user, "record_by_turns", lambda *players, **how: refuse())
    failing = plan(DIRECT)
    linux_user.measure_forks(failing)
    assert failing.errors == ["linux forks: it is gone"] and not failing.rows


def refuse() -> None:
    raise RunFailed("it is gone")


def test_the_aim_of_the_programs_is_what_native_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT)
    times = {DIRECT.name: 11.0, Tcg.name: 80.0, Native.name: 10.0}
    loads = (*linux_user.PROGRAMS, *linux_user.SCRIPTS)
    monkeypatch.setattr(linux_user, "contenders_for_programs", lambda plan: taking(times, *loads))
    linux_user.measure_programs(made)
    for program in linux_user.PROGRAMS:
        rows = by_peer(made, f"direct.linux.{program}")
        must = {linux_user.MADE: None}.get(program, 4.0)
        assert (rows[Tcg.name].must, rows[Tcg.name].aim) == (must, 8.0)
        assert rows[Tcg.name].verdict() == (Verdict.MUST if must else Verdict.BELOW)
        assert rows[Native.name].verdict() is Verdict.NONE
    for script in linux_user.SCRIPTS:
        assert by_peer(made, f"direct.linux.{script}").keys() == {Tcg.name}


def test_programs_are_measured_as_often_as_kernels_are_booted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT, effort=FULL)
    times, loads = {DIRECT.name: 1.0, Tcg.name: 8.0}, (*linux_user.PROGRAMS, *linux_user.SCRIPTS)
    monkeypatch.setattr(linux_user, "contenders_for_programs", lambda plan: taking(times, *loads))
    linux_user.measure_programs(made)
    assert made.kept("linux.gzip", DIRECT.name) == [1.0] * FULL.boots
    assert made.kept("linux.gzip", Tcg.name) == [8.0] * FULL.boots


def test_bochs_takes_part_once() -> None:
    made = plan()
    linux.interleave(made, "forks", taking({INTERP.name: 1.0, Bochs.name: 9.0}, "forks"), 3)
    assert (made.kept("linux.forks", INTERP.name), made.kept("linux.forks", Bochs.name)) == ([1, 1, 1], [9])


def test_another_outcome_fails_the_run() -> None:
    outcomes = linux_user.Outcomes()
    assert outcomes.seconds({"forks": linux_user.Load(2.0, "1000")}) == {"linux.forks": 2.0}
    with pytest.raises(RunFailed, match="forks came to 999, elsewhere to 1000"):
        outcomes.seconds({"forks": linux_user.Load(2.0, "999")})


def test_without_packages_or_compiler_a_part_is_left_out_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(plan: Plan) -> None:
        raise PackagesUnavailable("no network")

    def no_compiler(plan: Plan) -> None:
        raise stress_program.NoCompiler("no gcc")

    monkeypatch.setattr(linux_user, "boot_for_forks", unavailable)
    monkeypatch.setattr(linux_user, "contenders_for_programs", no_compiler)
    made = plan()
    linux_user.measure(made)
    assert (made.rows, made.errors) == ([], [])
    assert made.notes == ["left out: linux forks: no network", "left out: linux programs: no gcc"]


def test_a_whole_run_takes_the_whole_text() -> None:
    assert linux_user.text_mib(plan(effort=FULL)) == linux_user.text_mib(plan(effort=FULL.repeated(1))) == 256
    assert linux_user.text_mib(plan(effort=QUICK)) == 8


@pytest.mark.long
def test_programs_in_linux_come_to_the_same_here_and_on_tcg() -> None:
    need_qemu()
    made = plan()
    linux_user.measure(made)
    if made.notes:
        pytest.skip(made.notes[0])
    assert made.errors == []
    measures = {row.measure for row in made.rows}
    assert measures == {f"interp.linux.{load}" for load in ("forks", *linux_user.PROGRAMS, *linux_user.SCRIPTS)}
