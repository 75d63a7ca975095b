"""Every guest passes, unchanged, on another PC: QEMU's. What QEMU is known to get wrong, the guest skips and says."""

from __future__ import annotations

import re
from functools import cache

import pytest

from guests import build, list_guests
from tests.guests import qemu

DONE = re.compile(r"DONE (\d+) passed, (\d+) failed")
INTERACTIVE = {"minios"}
CHECKING = [guest.name for guest in list_guests() if guest.name not in INTERACTIVE]

# What `help` promises, in an order that shows it: a script as one would pipe it in.
SCRIPT = """help
rings
run primes
run spin &
run count
ps
kill 3
run private &
run private
wait
run crash
run cheat
nonsense
echo a  b
mem
uptime
exit 7
"""


@pytest.fixture(autouse=True)
def _qemu_is_here() -> None:
    qemu.need_qemu()


@cache
def quick_run(name: str) -> qemu.Run:
    """One run of each guest serves several tests."""
    return qemu.run(build(name), append="quick")


def check_verdict(run: qemu.Run) -> int:
    """No FAIL, a DONE line that agrees with the PASS lines, exit status 0. Returns how many checks passed."""
    assert run.starting("FAIL") == []
    assert run.lines, "nothing was printed"
    verdict = DONE.fullmatch(run.lines[-1])
    assert verdict, f"the last line is {run.lines[-1]!r}"
    assert int(verdict[1]) == len(run.starting("PASS"))
    assert int(verdict[2]) == 0
    assert run.status == qemu.PASSED
    return int(verdict[1])


@pytest.mark.parametrize("name", CHECKING)
def test_guest_passes(name: str) -> None:
    assert check_verdict(quick_run(name)) > 0


@pytest.mark.parametrize("name", ["paging", "faults", "syscalls"])
def test_guest_passes_on_another_processor(name: str) -> None:
    """A Pentium III with NX, close to Ringfence's own model."""
    assert check_verdict(qemu.run(build(name), append="quick", options=("-cpu", "pentium3,+nx"))) > 0


@pytest.mark.parametrize("name", CHECKING)
def test_check_names_are_told_apart(name: str) -> None:
    """A name that comes twice cannot be looked up."""
    lines = quick_run(name).lines
    names = [line.split()[1].rstrip(":") for line in lines if line.startswith(("PASS ", "SKIP "))]
    assert len(names) == len(set(names))


def test_backdoor_agrees_with_another_monitor() -> None:
    """QEMU's answers to the five commands it has, the absolute pointer's among them, are those the guest expects."""
    passed = {line.split()[1] for line in quick_run("backdoor").starting("PASS")}
    assert passed >= {
        "version_is_6", "version_gives_the_magic", "pointer_is_off_when_disabled", "pointer_has_a_word_when_enabled",
        "pointer_tells_its_version", "pointer_words_are_taken_off", "pointer_words_that_are_not_there_are_an_error",
        "an_unknown_command_changes_eax", "an_unknown_command_has_no_answer", "out_is_a_call_too",
    }  # fmt: skip


def test_backdoor_is_skipped_where_nobody_answers() -> None:
    run = qemu.run(build("backdoor"), options=("-machine", "pc,vmport=off"))
    assert run.lines == ["SKIP backdoor: no monitor answers on port 5658h", "DONE 0 passed, 0 failed"]
    assert run.status == qemu.PASSED


def test_compute_reports_every_workload() -> None:
    rows = [line.split() for line in qemu.run(build("compute"), append="scale=1").starting("COMPUTE")]
    assert [row[1] for row in rows] == [
        "sieve", "sha256", "quicksort", "matrix_x87", "matrix_sse2", "search", "bytecode",
    ]  # fmt: skip
    assert all(len(row) == 5 and int(row[3]) > 0 and int(row[4]) > 0 for row in rows)


def test_compute_runs_only_what_is_asked() -> None:
    rows = qemu.run(build("compute"), append="scale=1 only=search").starting("COMPUTE")
    assert [row.split()[1] for row in rows] == ["search"]


def test_nano_reports_every_operation() -> None:
    rows = [line.split() for line in quick_run("nano").starting("NANO")]
    assert [row[1] for row in rows] == [
        "syscall", "in", "cr3wr", "callret", "pgfault", "divzero", "ptemod", "ptemod_use",
    ]  # fmt: skip
    assert all(float(row[2]) >= 0 and float(row[3]) >= 0 for row in rows)


def test_minios_obeys_a_script() -> None:
    run = qemu.run(build("minios"), typed=SCRIPT)
    text = "\n".join(run.lines)
    for expected in (
        "minios> help",
        "hello from ring 0, the kernel",
        "    hello from ring 1",
        "        hello from ring 2",
        "            hello from ring 3",
        "it reads kernel data -> vector 14, error code 5",
        "primes: there are 2262 below 20000, the last is 19997",
        "[3] spin",
        "count [4]: 3",
        "[3] spin: ended",
        "private [5]: my word at 40000000h is 5",
        "private [6]: my word at 40000000h is 6",
        "crash: page fault, error code 7",
        "cheat: general protection, error code 0",
        "nonsense is no command; try help",
        "\na b\n",
        "status 7.",
    ):
        assert expected in text, f"{expected!r} is missing in:\n{text}"
    assert "nothing stopped me" not in text
    assert run.status == 2 * 7 + 1


def test_minios_ends_a_program_at_ctrl_c() -> None:
    run = qemu.run(build("minios"), typed="run spin\n\x03ps\nexit 3\n")
    assert "spin" not in "".join(line for line in run.lines if "ready" in line)
    assert run.status == 2 * 3 + 1


def test_minios_ends_at_ctrl_d() -> None:
    assert qemu.run(build("minios"), typed="echo bye\n\x04").status == qemu.PASSED
