"""Lines with their times: reading them from a program, and what they say."""

from __future__ import annotations

import os
import sys
import time

import pytest

from bench.clocks import ClockCheck, agreement, check_clock
from bench.compute import choose_scale, per_operation
from bench.host import cpu_model
from bench.kernel import NANO, SYSCALLS, host_ns
from bench.transcript import Line, RunFailed, Transcript, Work, check_guest, read_lines, record, works

SECOND = 1_000_000_000


def transcript(*lines: tuple[int, str]) -> Transcript:
    return Transcript(1000, tuple(Line(*line) for line in lines))


def work(clock_ns: int, host_ns: int, operations: int = 100, name: str = "sieve") -> Work:
    return Work(name, 1, operations, clock_ns, host_ns)


def test_a_span_is_the_time_since_the_line_before() -> None:
    spans = transcript((1500, "COMPUTE a 0 1 1"), (1600, "PASS a"), (2600, "COMPUTE b 0 1 1")).spans("COMPUTE")
    assert [(span.fields[0], span.host_ns) for span in spans] == [("a", 500), ("b", 1000)]


def test_compute_lines_are_read() -> None:
    found = works(transcript((1500, "COMPUTE sieve 00002578 1100000 39824207"), (1600, "PASS sieve")))
    assert found == {"sieve": Work("sieve", 0x2578, 1100000, 39824207, 500)}


@pytest.mark.parametrize("line", ["COMPUTE sieve 2578 1", "COMPUTE sieve zz 1 1", "PASS sieve"])
def test_what_is_no_compute_line_is_refused(line: str) -> None:
    with pytest.raises(RunFailed):
        works(transcript((1500, line)))


def test_a_guest_must_reach_its_end_with_nothing_failed() -> None:
    assert check_guest(transcript((1, "DONE 1 passed, 0 failed"))).lines
    with pytest.raises(RunFailed, match="did not reach its end"):
        check_guest(transcript((1, "PASS a")))
    with pytest.raises(RunFailed, match="FAIL a"):
        check_guest(transcript((1, "FAIL a: why"), (2, "DONE 0 passed, 1 failed")))


def test_the_first_line_that_matches_is_found_or_the_end_is_told() -> None:
    found = transcript((1, "a"), (2, "b"), (3, "b"))
    assert found.first("b".__eq__).host_ns == 2
    with pytest.raises(RunFailed, match="b"):
        found.first("c".__eq__)


def test_lines_are_read_up_to_the_one_that_the_caller_waits_for() -> None:
    reads, writes = os.pipe()
    try:
        os.write(writes, b"DONE 1\nready\n")
        lines = read_lines(reads, time.monotonic() + 30, "ready".__eq__)
    finally:
        os.close(reads)
        os.close(writes)
    assert [line.text for line in lines] == ["DONE 1", "ready"]


def test_recording_stops_at_the_last_line_of_a_guest_that_does_not_switch_off() -> None:
    program = "import time; print('PASS a\\r\\nDONE 1 passed, 0 failed', flush=True); time.sleep(60)"
    started = time.monotonic()
    lines = record([sys.executable, "-c", program], 30).lines
    assert time.monotonic() - started < 30
    assert [line.text for line in lines] == ["PASS a", "DONE 1 passed, 0 failed"]


def test_recording_keeps_a_last_line_without_its_end_from_a_pipe_of_its_own() -> None:
    reads, writes = os.pipe()
    program = f"import os; os.write({writes}, b'PASS a\\r\\nDONE 1 passed'); print('not this')"
    lines = record([sys.executable, "-c", program], 30, serial_pipe=(reads, writes)).lines
    assert [line.text for line in lines] == ["PASS a", "DONE 1 passed"]


def test_a_silent_program_is_ended_at_the_time_limit() -> None:
    with pytest.raises(RunFailed, match="time limit"):
        record([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)


def test_a_program_that_cannot_start_is_a_failed_run() -> None:
    with pytest.raises(RunFailed, match="No such file"):
        record(["/nonexistent/program"], 1)


def test_a_clock_follows_the_host_within_five_percent() -> None:
    short = {"first": work(1, 900, name="first"), "second": work(100, 110)}
    long = {"first": work(5, 100, name="first"), "second": work(1060, 1110)}
    assert agreement(short, long) == pytest.approx(0.96)  # the first workload's start-up is not in it
    assert ClockCheck(0.96, {}).follows_host
    assert not ClockCheck(0.94, {}).follows_host
    assert not ClockCheck(1.0, {}, can_follow=False).follows_host
    assert agreement(long, long) == 0


class Prompt:
    """Does a percent of each work in 100 us; each line is read 1 ms late, or that much too early."""

    name, clock_can_follow = "prompt", True

    def __init__(self) -> None:
        self.scales: list[int] = []

    def version(self) -> str:
        return "1"

    def run(self, guest: str, command_line: str, attached: object = None) -> Transcript:
        scale = int(command_line.removeprefix("scale="))
        self.scales.append(scale)
        took, late = scale * 100_000, (-1) ** len(self.scales) * 1_000_000
        return transcript(
            (10_000_000, f"COMPUTE sieve 00002578 1100000 {took}"),
            (10_000_000 + took + late, f"COMPUTE sha256 00002578 1100000 {took}"),
        )


def test_a_fast_guests_clock_is_checked_for_long_enough() -> None:
    peer = Prompt()
    check = check_clock(peer)
    assert check.follows_host and check.scale == peer.scales[-1] > 10 * peer.scales[1]


def test_time_per_operation_by_either_clock() -> None:
    assert per_operation(work(500, 9000, 100), None) == 5
    assert per_operation(work(500, 9000, 1100), work(50, 1000, 100)) == 8
    with pytest.raises(RunFailed, match="too busy"):
        per_operation(work(500, 900, 1100), work(50, 1000, 100))


def test_the_scale_suits_the_contender() -> None:
    assert choose_scale(0.03 * SECOND, 20, 0.3) == 250  # ten times the probe, and a margin of a quarter
    assert choose_scale(100 * SECOND, 20, 0.3) == 40
    assert choose_scale(0, 20, 0.3) > 40


def test_host_time_of_a_loop_is_a_difference_of_two_runs() -> None:
    long = transcript((1000 + 7000, "NANO in 1 1"), (9000, "NANO callret 1 1"))
    short = transcript((1000 + 1000, "NANO in 1 1"), (9000, "NANO callret 1 1"))
    assert host_ns(NANO, long, short, 100) == {"in": 20.0}  # three tries; the second line's time did not grow
    long, short = transcript((3000, "SYSCALL int 5 5")), transcript((2000, "SYSCALL int 5 5"))
    assert host_ns(SYSCALLS, long, short, 100) == {"int": 10.0}


def test_the_processor_is_named() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: A : B\nmodel name\t: C\n") == "A : B"
    assert cpu_model("") == "unknown"
