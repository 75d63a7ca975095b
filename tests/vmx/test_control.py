"""Requests to a machine, without a socket: what is called, what is answered, what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import BadOption
from tests.vmx.fake_machine import FakeMachine, ListLog
from vmx.control import parse_request, perform
from vmx.control_spec import ARGUMENTS, TEXT_CHARACTERS_MAX
from vmx.power import POWER_VERBS, VERBS, InvalidPowerState, PowerState, after


def ask(machine: FakeMachine, verb: str, log: ListLog | None = None, **arguments: object) -> dict[str, Any]:
    line = json.dumps({"verb": verb, "args": arguments, "id": 9}).encode()
    answer = perform(parse_request(line), machine, log or ListLog())
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1
    message = json.loads(answer)
    assert message.pop("id") == 9
    assert isinstance(message, dict)
    return message


@pytest.mark.parametrize(
    ("verb", "arguments", "call"),
    [
        ("stop", {}, ("stop", False)),
        ("stop", {"hard": True}, ("stop", True)),
        ("reset", {}, ("reset",)),
        ("suspend", {}, ("suspend",)),
        ("connect", {"device": "IDE1:0"}, ("connect", "ide1:0", None)),
        ("connect", {"device": "ide1:0", "path": "/a.iso"}, ("connect", "ide1:0", Path("/a.iso"))),
        ("disconnect", {"device": "serial0"}, ("disconnect", "serial0")),
        ("eject", {"device": "ide1:0", "force": True}, ("eject", "ide1:0")),
        ("screenshot", {"path": "/tmp/a.png"}, ("screenshot", Path("/tmp/a.png"))),
        ("send-keys", {"text": "ctrl-alt-delete"}, ("send_keys", "ctrl-alt-delete")),
    ],
)
def test_a_request_calls_the_machine(verb: str, arguments: dict[str, object], call: tuple[object, ...]) -> None:
    machine = FakeMachine()
    assert ask(machine, verb, **arguments) == {"ok": True, "result": None}
    assert machine.calls == [call]


def test_a_snapshot_of_a_running_machine_is_answered_with_how_long_it_stood_still() -> None:
    machine = FakeMachine()
    answer = ask(machine, "snapshot", action="take", name="a", memory=True)
    assert answer["result"] == {"uid": 4, "name": "a", "memory": True, "stun_ms": 2.5}
    assert ask(machine, "snapshot", action="list")["result"][0]["uid"] == 3
    assert machine.calls == [("take_snapshot", "a", "", True), ("list_snapshots",)]


def test_snapshots_of_a_running_machine_are_returned_to_and_deleted() -> None:
    machine = FakeMachine()
    answer = ask(machine, "snapshot", action="revert", snapshot="a")
    assert answer["result"] == {"uid": 3, "power_state": "poweredOn", "notes": []}
    answer = ask(machine, "snapshot", action="delete", snapshot="3", children=True)
    assert answer["result"] == {"stuns_ms": [0.5]}
    for action in ("delete-all", "consolidate"):
        assert ask(machine, "snapshot", action=action)["ok"]
    assert machine.calls == [
        ("revert_snapshot", "a"), ("delete_snapshot", "3", True), ("delete_all_snapshots",), ("consolidate",),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["start", "resume"])
def test_a_suspended_machine_goes_on(verb: str) -> None:
    machine = FakeMachine(PowerState.SUSPENDED)
    assert ask(machine, verb)["ok"]
    assert machine.calls == [(verb,)]


def test_status_is_plain_json() -> None:
    result = ask(FakeMachine(), "status")["result"]
    assert result["power_state"] == "poweredOn"
    assert result["devices"] == [{"device": "ide1:0", "kind": "cdrom", "connected": True, "backing": "/x.iso"}]
    assert result["unknown_keys"] == ["my.key"]


@pytest.mark.parametrize("state", PowerState)
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_state_that_does_not_allow_it_refuses(state: PowerState, verb: str) -> None:
    machine = FakeMachine(state)
    values: dict[str, object] = {
        "device": "ide1:0", "path": "/p", "text": "a", "hard": True, "force": True, "action": "take", "name": "a",
        "description": "b", "memory": True, "snapshot": "a", "children": True,
    }  # fmt: skip
    answer = ask(machine, verb, **{name: values[name] for name in ARGUMENTS[verb]})
    try:
        after(state, verb)
    except InvalidPowerState as error:
        assert answer == {"ok": False, "error": str(error), "kind": "InvalidPowerState"}
        assert not machine.calls
    else:
        assert answer["ok"]
        assert bool(machine.calls) == (verb not in {"status", "console"})


def test_a_refusal_is_the_machines_own_line() -> None:
    answer = ask(FakeMachine(), "eject", device="ide1:0")
    assert answer == {"ok": False, "error": "ide1:0: the guest has locked the drive", "kind": "HostRefused"}


def test_a_defect_in_an_action_is_an_answer_and_a_line_in_the_log() -> None:
    log = ListLog()
    answer = ask(FakeMachine(), "disconnect", log, device="broken")
    assert answer["error"] == "disconnect: internal error: ZeroDivisionError: defect"
    assert log.lines == [
        'CONTROL disconnect {"device": "broken"}',
        "CONTROL disconnect failed: ZeroDivisionError: defect",
    ]


def test_what_only_looks_is_not_logged() -> None:
    log = ListLog()
    ask(FakeMachine(), "status", log)
    assert not log.lines


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("disconnect", {"device": "../../etc"}, "expected a device"),
        ("disconnect", {"device": ""}, "expected a device"),
        ("screenshot", {"path": "a.png"}, "expected an absolute path"),
        ("screenshot", {"path": "/a\0b"}, "expected an absolute path"),
        ("screenshot", {"path": "/\ud800"}, "expected an absolute path"),
        ("screenshot", {"path": ""}, "expected an absolute path"),
        ("connect", {"device": "ide1:0", "path": "x"}, "expected an absolute path"),
        ("send-keys", {"text": "\udfff"}, "surrogate"),
        ("snapshot", {"action": "take", "name": "\udfff"}, "surrogate"),
        ("snapshot", {"action": "revert"}, "expected a snapshot's number or name"),
        ("snapshot", {"action": "commit"}, "expected one of list, take, revert"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(verb: str, arguments: dict[str, object], said: str) -> None:
    machine = FakeMachine()
    answer = ask(machine, verb, **arguments)
    assert said in answer["error"]
    assert not machine.calls


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "JSON object"),
        (b"\xff\xfe", "JSON object"),
        (b"[" * 60_000, "JSON object"),
        (b'{"verb": ' + b"9" * 10_000 + b"}", "JSON object"),
        (b"[]", '"verb"'),
        (b'{"verb": 1}', '"verb"'),
        (b'{"verb": "explode"}', "expected one of answer, connect, console"),
        (b'{"verb": "status", "args": []}', "object as args"),
        (b'{"verb": "status", "id": {}}', "id"),
        (b'{"verb": "status", "id": true}', "id"),
        (b'{"verb": "status", "args": {"x": 1}}', "no argument"),
        (b'{"verb": "stop", "args": {"hard": 1}}', "expected a bool"),
        (b'{"verb": "eject", "args": {}}', "expected device"),
        (b'{"verb": "send-keys", "args": {"text": "' + b"a" * (TEXT_CHARACTERS_MAX + 1) + b'"}}', "at most"),
    ],
)
def test_a_line_that_is_no_request_is_refused(line: bytes, said: str) -> None:
    with pytest.raises(BadOption) as refused:
        parse_request(line)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


def test_damaged_requests_are_refused_or_answered() -> None:
    chance = random.Random(5)
    values = {"device": "ide1:0", "path": "/p", "text": "a", "action": "take", "name": "a", "description": "b"}
    good = [
        json.dumps({"verb": verb, "args": {name: values[name] for name in ARGUMENTS[verb] if name in values}}).encode()
        for verb in sorted(VERBS)
    ]
    machine = FakeMachine()
    for _ in range(3000):
        line = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            line[chance.randrange(len(line))] = chance.choice(b'"{}[]:,\\0az\x00\xff ')
        machine.state = chance.choice(list(PowerState))
        try:
            request = parse_request(bytes(line))
        except BadOption:
            continue
        assert "ok" in json.loads(perform(request, machine, ListLog()))


def test_every_power_verb_can_be_asked_for() -> None:
    assert ARGUMENTS.keys() >= POWER_VERBS
