"""Random programs in rings 1 to 3 with paging on: the fastest engine against the interpreter, in everything visible.

Registers, flags, segments with their hidden parts, FPU state, memory with page tables and their A and D bits, and every
exception in its order with the registers of its moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ringfence.errors import HostRefused
from tests.conformance.harness import CODE_BASE
from tests.conformance.ring3_compare import Pair, differences, shorten
from tests.conformance.ring3_machine import END, A, Outcome, Program, Ring3Machine
from tests.conformance.ring3_parts import program
from vmm.engines.named import ENGINES

REFERENCE = "interp"
EAGER = next(name for name in ("direct-eager", "direct", "world") if name in ENGINES)
SELDOM = "direct" if "direct" in ENGINES else "world"  # it runs directly only what is long enough to pay
QUICK, LONG = range(400), range(1_000_000, 1_100_000)
FEW, MORE = range(400, 500), range(2_000_000, 2_010_000)
SHOWN = 5  # reports


def pair_or_skip(second: str) -> Pair:
    try:
        return Pair(REFERENCE, second)
    except HostRefused as refused:
        pytest.skip(str(refused))


@pytest.fixture(scope="module")
def eager() -> Iterator[Pair]:
    made = pair_or_skip(EAGER)
    yield made
    made.close()


@pytest.fixture(scope="module")
def seldom() -> Iterator[Pair]:
    made = pair_or_skip(SELDOM)
    yield made
    made.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Ring3Machine]:
    made = Ring3Machine(REFERENCE)
    yield made
    made.close()


def reports(pair: Pair, seeds: range) -> str:
    found: list[str] = []
    for seed in seeds:
        if text := pair.check(program(seed)):
            found.append(text)
            if len(found) == SHOWN:
                break
    return "\n".join(found)


def test_programs_that_run_directly(eager: Pair) -> None:
    text = reports(eager, QUICK)
    assert not text, f"seeds {QUICK}:\n{text}"


def test_programs_that_run_directly_where_it_pays(seldom: Pair) -> None:
    text = reports(seldom, FEW)
    assert not text, f"seeds {FEW}:\n{text}"


@pytest.mark.long
def test_many_programs_that_run_directly(eager: Pair) -> None:
    text = reports(eager, LONG)
    assert not text, f"seeds {LONG}:\n{text}"


@pytest.mark.long
def test_many_programs_that_run_directly_where_it_pays(seldom: Pair) -> None:
    text = reports(seldom, MORE)
    assert not text, f"seeds {MORE}:\n{text}"


def test_a_program_may_take_much_longer_in_one_engine(eager: Pair) -> None:
    """This one turns in a loop for half a second directly, and for some seconds interpreted."""
    assert not eager.check(program(1_094_372))


# ---- the comparison itself -------------------------------------------------------------------------------------------


def test_a_program_is_the_same_whenever_the_timer_strikes(machine: Ring3Machine) -> None:
    for seed in QUICK[:60]:
        made = program(seed)
        assert differences(made, machine.run(made), machine.run(made)) == [], f"seed {seed}"


def test_programs_meet_every_exception_that_they_can(machine: Ring3Machine) -> None:
    """Else the comparison would compare nothing."""
    vectors = {entry["vector"] for seed in QUICK for entry in machine.run(program(seed)).log}
    assert vectors >= {0, 1, 3, 4, 5, 6, 7, 10, 11, 13, 14, 16, 17, 19, 0x80, 0x82}


@pytest.mark.skipif(EAGER != "direct-eager", reason="no engine runs everything directly that it can")
def test_most_programs_do_run_directly_in_every_ring() -> None:
    pair = pair_or_skip(EAGER)
    stats = pair.machines[1].vcpu.stats
    directly = 0
    for seed in QUICK[:100]:
        before = sum(stats.direct_stays)
        pair.machines[1].run(program(seed))
        directly += sum(stats.direct_stays) > before
    assert directly > 50
    assert all(stats.direct_stays[ring] for ring in (1, 2, 3))
    assert stats.direct_hidden and stats.direct_traced and stats.direct_calls and stats.direct_privileged
    pair.close()


def test_programs_run_long_enough_to_be_worth_it(machine: Ring3Machine) -> None:
    before = machine.vcpu.stats.insns_user
    for seed in QUICK[:100]:
        machine.run(program(seed))
    assert machine.vcpu.stats.insns_user - before > 100 * 1000


def test_the_shortest_prefix_that_differs_is_found(machine: Ring3Machine) -> None:
    made = next(one for one in map(program, QUICK) if one.ring == 3 and len(one.starts) > 6)
    at = made.pieces[made.starts[3]][0] - CODE_BASE

    def differ(cut: Program) -> list[str]:
        code = bytearray(cut.code)
        if code[at : at + 2] != END:
            code[at : at + 2] = b"\x0f\x0b"
        lines = differences(cut, machine.run(cut), machine.run(dataclasses.replace(cut, code=code)))
        return [line for line in lines if not line.startswith("code+")]

    cut, lines = shorten(made, differ)
    assert lines and len(cut.starts) == 5


@pytest.mark.parametrize("field", ["an accessed bit", "a hidden base", "an exception", "data"])
def test_a_difference_is_seen(machine: Ring3Machine, field: str) -> None:
    made = next(one for one in map(program, QUICK) if machine.run(one).log)
    good = machine.run(made)
    memory, state, log = bytearray(good.memory), bytearray(good.state), list(good.log)
    if field == "an accessed bit":
        memory[0x16000 + (8 if made.pae else 4) * 2] ^= A
    elif field == "a hidden base":
        state[52] ^= 0x10
    elif field == "an exception":
        log.pop()
    else:
        memory[0x33333] ^= 1
    assert differences(made, good, Outcome(good.end, bytes(state), bytes(memory), log))
