"""Power states of a machine, and what may be asked of it in which one. A missing pair is refused.

The words are those of the VI SDK; a soft stop asks the guest, a hard one does not.
Source: VI SDK 2.5, VirtualMachine: PowerOnVM_Task, PowerOffVM_Task, ResetVM_Task, SuspendVM_Task, InvalidPowerState.
"""

from __future__ import annotations

from enum import Enum

from ringfence.errors import RingfenceError


class PowerState(Enum):
    """VirtualMachinePowerState. `text` is what vimsh prints."""

    OFF = "poweredOff"
    ON = "poweredOn"
    SUSPENDED = "suspended"

    @property
    def text(self) -> str:
        return TEXTS[self]


TEXTS = {PowerState.OFF: "Powered off", PowerState.ON: "Powered on", PowerState.SUSPENDED: "Suspended"}
OFF, ON, SUSPENDED = PowerState.OFF, PowerState.ON, PowerState.SUSPENDED

# What a power verb makes of a state. `start` of a suspended machine resumes it, as PowerOnVM_Task does.
POWER: dict[tuple[PowerState, str], PowerState] = {
    (OFF, "start"): ON,            (ON, "stop"): OFF,           (ON, "reset"): ON,
    (ON, "suspend"): SUSPENDED,    (SUSPENDED, "resume"): ON,   (SUSPENDED, "start"): ON,
    (SUSPENDED, "stop"): OFF,
}  # fmt: skip
POWER_VERBS = frozenset(verb for _, verb in POWER)

# What the other verbs need; they change no power state.
ALLOWED: dict[str, frozenset[PowerState]] = {
    "status": frozenset(PowerState),
    "connect": frozenset({ON}),
    "disconnect": frozenset({ON}),
    "eject": frozenset({ON}),
    "screenshot": frozenset({ON}),
    "send-keys": frozenset({ON}),
    "console": frozenset({ON}),
    "answer": frozenset({ON}),
    "snapshot": frozenset(PowerState),
}
VERBS = POWER_VERBS | ALLOWED.keys()
assert not POWER_VERBS & ALLOWED.keys()


class InvalidPowerState(RingfenceError):
    """A verb that the machine's state does not allow."""

    def __init__(self, verb: str, existing: PowerState) -> None:
        super().__init__(f"{verb}: not possible in the current state ({existing.text})")
        self.verb, self.existing = verb, existing


def after(state: PowerState, verb: str) -> PowerState:
    """The state that `verb` leads to. Raises InvalidPowerState."""
    if verb in ALLOWED:
        if state not in ALLOWED[verb]:
            raise InvalidPowerState(verb, state)
        return state
    if (state, verb) not in POWER:
        raise InvalidPowerState(verb, state)
    return POWER[state, verb]
