"""Power states: every pair of state and verb."""

from __future__ import annotations

import pytest

from vmx.power import ALLOWED, POWER, VERBS, InvalidPowerState, PowerState, after

OFF, ON, SUSPENDED = PowerState.OFF, PowerState.ON, PowerState.SUSPENDED

# By verb: what becomes of a machine that is off, on, suspended; None is refused.
EXPECTED: dict[str, tuple[PowerState | None, PowerState | None, PowerState | None]] = {
    "start": (ON, None, ON),
    "stop": (None, OFF, OFF),
    "reset": (None, ON, None),
    "suspend": (None, SUSPENDED, None),
    "resume": (None, None, ON),
    "status": (OFF, ON, SUSPENDED),
    "connect": (None, ON, None),
    "disconnect": (None, ON, None),
    "eject": (None, ON, None),
    "screenshot": (None, ON, None),
    "send-keys": (None, ON, None),
    "console": (None, ON, None),
    "answer": (None, ON, None),
    "snapshot": (OFF, ON, SUSPENDED),
}


def test_every_verb_is_expected() -> None:
    assert EXPECTED.keys() == VERBS == ALLOWED.keys() | {verb for _, verb in POWER}


@pytest.mark.parametrize("verb", EXPECTED)
@pytest.mark.parametrize("state", PowerState)
def test_a_pair_is_in_the_table_or_refused(state: PowerState, verb: str) -> None:
    expected = EXPECTED[verb][list(PowerState).index(state)]
    if expected is not None:
        assert after(state, verb) is expected
        return
    with pytest.raises(InvalidPowerState) as refused:
        after(state, verb)
    assert (refused.value.verb, refused.value.existing) == (verb, state)
    assert state.text in str(refused.value)


@pytest.mark.parametrize("state", PowerState)
def test_an_unknown_verb_is_refused(state: PowerState) -> None:
    with pytest.raises(InvalidPowerState):
        after(state, "explode")
