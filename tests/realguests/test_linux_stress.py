"""User programs in the Linux guest that press where a monitor is thin, and what they come to on other machines.

The trials are in tests/realguests/stress; each makes a checksum of what happened to it: contents of memory, registers,
flags, the vectors, error codes and order of its exceptions. The oracle is the host's own processor, which runs the very
program under the host's own Linux; where that cannot be, QEMU's translator.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.realguests import stress_program
from tests.realguests.conftest import or_skip
from tests.realguests.guest import CONFIG, LIMIT_S, LONG_S, linux, running
from tests.realguests.qemu import boots, kernel_options
from tests.realguests.transcript import Transcript
from vmm.engines import named
from vmx.stop import StopKind

ENGINES = ("interp", "direct")
LONG_ENGINES = (*ENGINES, "direct-eager")
FLAVOURS = ("686", "686-pae")
MACHINES = [(flavour, vcpus) for flavour in FLAVOURS for vcpus in (1, 4)]
LONG_SCALE, LONGEST_SCALE = 4, 20
TIMEOUT_S = 300

# QEMU's translator knows no segment limits, no #AC and no #XM, and reports the read of a read-modify-write.
NOT_ON_TCG = frozenset({"segment_limits", "alignment", "sse_exceptions", "restarted_instructions"})


@pytest.fixture(scope="module")
def program() -> Path:
    return or_skip(stress_program.program)()


@functools.cache
def on_the_host(program: Path, scale: int) -> dict[str, str]:
    """What the trials come to on the host's processor; nothing where it does not run 32-bit programs."""
    try:
        done = subprocess.run(
            [program, f"scale={scale}"], capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return {}
    return stress_program.sums(Transcript(done.stdout)) if done.returncode == 0 else {}


@functools.cache
def on_tcg(flavour: str, vcpus: int, scale: int) -> dict[str, str]:
    boot = or_skip(stress_program.boot)(flavour, command_line(scale))
    return stress_program.sums(boots(*kernel_options(boot), "-smp", str(vcpus)))


def command_line(scale: int) -> str:
    return f"mods=none checks=stress,complaints end=poweroff scale={scale}"


def expected(program: Path, scale: int) -> dict[str, str]:
    """From the oracle, without what its kernel refuses."""
    found = on_the_host(program, scale)
    if not found:
        found = {name: came for name, came in on_tcg("686", 1, scale).items() if name not in NOT_ON_TCG}
    refused = failed(found)
    return {name: came for name, came in found.items() if name not in refused}


def failed(sums: dict[str, str]) -> dict[str, str]:
    return {name: came for name, came in sums.items() if came.startswith("FAIL")}


def need_engine(engine: str) -> None:
    if engine not in named.ENGINES:
        pytest.skip(f"there is no engine {engine}")


def in_guest(engine: str, flavour: str, vcpus: int, scale: int) -> Transcript:
    """Boot, run the trials, power off."""
    need_engine(engine)
    boot = or_skip(stress_program.boot)(flavour, command_line(scale))
    with running(replace(CONFIG, vcpus=vcpus, engine=engine), linux(boot), LIMIT_S if scale == 1 else LONG_S) as guest:
        guest.ended(StopKind.POWERED_OFF)
        return guest.transcript


def agree(program: Path, transcript: Transcript, vcpus: int, scale: int) -> None:
    found, right = stress_program.sums(transcript), expected(program, scale)
    assert failed(found) == {}
    assert tuple(found) == stress_program.trials(), "one that never ended"
    assert {name: found[name] for name in right} == right
    assert transcript.cpus == vcpus
    assert not transcript.complaints


def test_the_trials_have_one_outcome(program: Path) -> None:
    """On the host's processor: the same twice, or they could not be compared."""
    first = on_the_host(program, 1)
    if not first:
        pytest.skip("this host runs no 32-bit programs")
    again = on_the_host.__wrapped__(program, 1)
    assert failed(first) == {}
    assert again == first
    assert tuple(first) == stress_program.trials()


@pytest.mark.parametrize(("flavour", "vcpus"), [("686", 1), ("686-pae", 4)])
@pytest.mark.parametrize("engine", ENGINES)
def test_programs_in_the_guest_do_what_they_do_on_a_processor(
    engine: str, flavour: str, vcpus: int, program: Path
) -> None:
    agree(program, in_guest(engine, flavour, vcpus, 1), vcpus, 1)


@pytest.mark.long
@pytest.mark.parametrize(("flavour", "vcpus"), MACHINES)
@pytest.mark.parametrize("engine", LONG_ENGINES)
def test_programs_in_the_guest_for_longer(engine: str, flavour: str, vcpus: int, program: Path) -> None:
    scale = LONGEST_SCALE if (flavour, vcpus) == MACHINES[-1] else LONG_SCALE
    agree(program, in_guest(engine, flavour, vcpus, scale), vcpus, scale)


@pytest.mark.long
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_qemu_s_translator_comes_to_the_same(flavour: str, program: Path) -> None:
    ours, theirs = on_the_host(program, 1), on_tcg(flavour, 1, 1)
    if not ours:
        pytest.skip("this host runs no 32-bit programs")
    assert {name: came for name, came in theirs.items() if name not in NOT_ON_TCG} == {
        name: came for name, came in ours.items() if name not in NOT_ON_TCG
    }
