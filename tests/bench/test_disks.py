"""The disks' measures: every contender reads the same bytes, and what one cannot read is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.disk_reader import measured
from bench.disks import FORMS, MIB, OURS, Contenders, Disks, add_rows, add_times, in_turn, make_disks, read_by
from bench.plan import QUICK, Plan
from bench.transcript import RunFailed


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Disks:
    made = Disks(tmp_path_factory.mktemp("disks"), 32)
    make_disks(made)
    return made


def plan() -> Plan:
    return Plan(None, None, QUICK, lambda text: None)  # type: ignore[arg-type]  # no guest takes part


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_like_the_bare_sectors(disks: Disks, form: str) -> None:
    bare = measured("pread", "sequential", str(disks.bare), 1)[1]
    assert measured("ours", "sequential", str(disks.of(form)), 1)[1] == bare


def test_a_batch_reads_what_single_calls_read(disks: Disks) -> None:
    paths = str(disks.of("sparse")), str(disks.bare)
    single = measured("ours", "random", paths[0], 20)[1]
    assert measured("pread", "random", paths[1], 20)[1] == single == measured("ours", "batch", paths[0], 20)[1]


def test_a_reader_is_a_program_of_its_own(disks: Disks) -> None:
    who = Contenders({OURS: sys.executable}, None)
    seconds, checksum = read_by(who, OURS, "sequential", disks.of("chain"), 1)
    assert seconds > 0 and checksum == measured("pread", "sequential", str(disks.bare), 1)[1]
    with pytest.raises(RunFailed):
        read_by(who, OURS, "sequential", Path("/no/such/disk"), 1)


def test_a_peer_that_fails_is_a_note_and_another_checksum_an_error() -> None:
    one = plan()

    def once(name: str) -> tuple[float, int | None]:
        if name == "broken":
            raise RunFailed("cannot")
        return 0.5, {"ours": 1, "liar": 2}.get(name)

    in_turn(one, "m", [OURS, "broken", "liar"], once)
    assert one.notes == ["m: broken: cannot"] and one.errors == ["m: liar read something else than we did"]
    add_rows(one, "m", "MB/s", MIB / 1e6, {"liar": (0.8, 1.0), "broken": (1.0, None)})
    assert [(row.peer_name, row.ratio, row.must) for row in one.rows] == [("liar", 1.0, 0.8)]


def test_a_first_repetition_may_be_left_out() -> None:
    made, calls = plan(), []

    def once(name: str) -> tuple[float, int | None]:
        calls.append(name)
        return float(len(calls)), 1

    in_turn(made, "m", [OURS, "peer"], once, warm=True)
    assert calls == ["peer", OURS, OURS, "peer"]
    assert (made.kept("m", OURS), made.kept("m", "peer")) == ([3.0], [4.0])


def test_times_have_rows_of_their_own_and_beside_each_peer() -> None:
    made = plan()
    for name, seconds in ((OURS, 0.002), ("qemu-io", 0.004)):
        made.keep("m", name, seconds)
    add_times(made, "m", "ms", 1000)
    assert [(row.ours, row.peer_name, row.ratio) for row in made.rows] == [(2.0, None, None), (2.0, "qemu-io", 2.0)]


def test_a_pass_over_the_disk_is_what_is_timed(disks: Disks) -> None:
    path = str(disks.of("sparse"))
    assert measured("ours", "sequential", path, 4, 3)[1] == measured("ours", "sequential", path, 4)[1]


def test_repetitions_can_be_more_than_the_plans() -> None:
    made = plan()
    in_turn(made, "m", [OURS, "peer"], lambda name: (1.0, 1), warm=True, times=3)
    assert len(made.kept("m", OURS)) == len(made.kept("m", "peer")) == 3 * QUICK.by_host_repetitions
