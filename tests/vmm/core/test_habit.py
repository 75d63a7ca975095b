"""Whether direct execution pays: world_habit.c, compiled into a library of its own, decides over made-up guests.

The judge is arithmetic: what a guest's bursts take interpreted and directly is given.
"""

from __future__ import annotations

import platform
import subprocess
from typing import Any, NamedTuple

import pytest
from cffi import FFI

from tests.vmm.core.test_shadow import HERE
from vmm.build_core import CODE_FLAGS, CORE, compiler

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

CDEF = """
struct load { uint32_t insns, interpreted_ps, direct_ps, stay_ns, fault_ns; };
struct outcome { uint64_t direct, interpreted_ns, direct_ns, longer, shorter, retrials; uint32_t wait; };
void habit_reset(uint32_t stay_ns);
void habit_bursts(const struct load *load, uint32_t page, uint32_t count, uint32_t disturbed, uint64_t extra_ns,
    struct outcome *o);
"""
ffi = FFI()
ffi.cdef(CDEF)

STAY_NS = 2000
NEVER = 0xFFFFFFFF
PAGE = 0x8049


class Load(NamedTuple):
    """Of a burst: instructions, picoseconds of each interpreted and direct, ns of the way in and out, ns of faults."""

    insns: int
    interpreted_ps: int = 6000
    direct_ps: int = 400
    stay_ns: int = STAY_NS
    fault_ns: int = 0

    @property
    def interpreted_ns(self) -> int:
        return self.insns * self.interpreted_ps // 1000


LONG = Load(50_000)  # 20 us directly, 300 interpreted
SHORT = Load(300)  # 1.8 us interpreted: no stay is worth it
HUGE = Load(7_500_000)  # 3 ms directly
VAIN = Load(3_000, fault_ns=5_000)
FAULTING = Load(3_000, fault_ns=100_000)  # 18 us, and pages that are dear


class Habit:
    def __init__(self, lib: Any) -> None:
        self.lib = lib
        lib.habit_reset(STAY_NS)

    def run(self, load: Load, count: int, disturbed: int = NEVER, extra_ns: int = 0, page: int = PAGE) -> Any:
        outcome = ffi.new("struct outcome *")
        self.lib.habit_bursts(ffi.new("struct load *", tuple(load)), page, count, disturbed, extra_ns, outcome)
        return outcome

    def ratio(self, load: Load, count: int) -> float:
        """Time against interpreting alone."""
        o = self.run(load, count)
        return float(o.interpreted_ns + o.direct_ns) / (count * load.interpreted_ns)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("habit") / "habit.so"
    flags = ["-std=gnu11", *CODE_FLAGS, "-DRF_WORLD", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", CORE]
    sources = [CORE / "world_habit.c", HERE / "habit_driver.c"]
    subprocess.run([*compiler(), *flags, "-o", library, *sources], check=True)
    return ffi.dlopen(str(library))


@pytest.fixture
def habit(library: Any) -> Habit:
    return Habit(library)


def test_long_bursts_run_directly_from_the_first_on(habit: Habit) -> None:
    assert habit.run(LONG, 200).direct == 200


def test_bursts_that_are_all_alike_are_not_taken_for_what_a_stay_costs(habit: Habit) -> None:
    """The least that a stay ever took is no measure of its cost where none is short, be it for a million stays."""
    last = habit.run(LONG, 1_000_000)
    assert last.direct == 1_000_000
    assert last.longer == 0


def test_short_bursts_are_interpreted(habit: Habit) -> None:
    assert habit.ratio(SHORT, 100_000) < 1.01


@pytest.mark.parametrize("insns", [500, 1000, 2500, 5000, 10_000, 40_000])
@pytest.mark.parametrize("faults_us", [0, 20, 200])
def test_what_does_not_pay_costs_little(habit: Habit, insns: int, faults_us: int) -> None:
    """Retrials included; the ways in and out that the ns leave out are a fifth of a stay."""
    load = Load(insns, fault_ns=faults_us * 1000)
    habit.run(load, 3_000_000 // insns)
    assert habit.ratio(load, 30_000_000 // insns) < 1.05


@pytest.mark.parametrize("extra_ms", [1, 10, 100])
@pytest.mark.parametrize("disturbed", [0, 1, 50])
def test_a_disturbed_measurement_does_not_decide(habit: Habit, disturbed: int, extra_ms: int) -> None:
    habit.run(LONG, disturbed + 1, disturbed, extra_ms * 1_000_000)
    assert habit.run(LONG, 100).direct == 100


def test_after_bursts_that_did_not_pay_longer_ones_are_found_to_pay(habit: Habit) -> None:
    """Dear pages make the wait longer than the later bursts are, so nothing is seen of these any more."""
    dear = Load(400_000, fault_ns=5_000_000)
    habit.run(dear, 20)
    assert habit.run(LONG, 1).direct == 0
    moderate = habit.run(LONG, 400)
    assert moderate.retrials > 0
    assert habit.run(LONG, 100).direct == 100


def test_a_burst_of_milliseconds_pays_for_some_in_vain_beside_it(habit: Habit) -> None:
    """A compressor's: its loop, and twice a function on a page that may not run directly."""
    for _ in range(40):
        huge, vain = habit.run(HUGE, 1), habit.run(VAIN, 3)
    assert huge.direct == 1 and vain.longer == 0
    assert huge.interpreted_ns < 0.01 * HUGE.interpreted_ns
    habit.run(VAIN, 2000)
    assert habit.ratio(VAIN, 10_000) < 1.05


def test_retrials_in_vain_become_rare(habit: Habit) -> None:
    habit.run(FAULTING, 2000)
    seen = [habit.run(FAULTING, 2000) for _ in range(20)]
    assert sum(o.retrials for o in seen) > 0
    assert sum(o.direct for o in seen[10:]) < 0.002 * 10 * 2000


def test_each_code_page_has_a_habit_of_its_own(habit: Habit) -> None:
    habit.run(FAULTING, 5000)
    assert habit.run(LONG, 50, page=PAGE + 1).direct == 50
