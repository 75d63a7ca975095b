"""Requests to a running machine: a line comes in, a method of the machine is called, a line goes out. No socket here.

Whatever comes in is hostile: it gets an answer that says what is wrong with it, and changes nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ringfence.errors import BadOption, RingfenceError
from vmkernel.storage.datastores import in_brackets, resolve
from vmkernel.storage.place import Place
from vmx.control_spec import ARGUMENTS, TEXT_CHARACTERS_MAX
from vmx.log import Log
from vmx.machine_actions import MachineActions
from vmx.power import VERBS, after

Arguments = Mapping[str, Any]

DEVICE = re.compile(r"[A-Za-z0-9:]{1,32}")
SHOWN_CHARACTERS = 80
QUIET = frozenset({"status", "console"})  # asked for again and again: not worth lines in the log
QUICK = QUIET  # answered even while another action runs


@dataclass(frozen=True, slots=True)
class Request:
    """`id` goes back with the answer."""

    verb: str
    arguments: Arguments
    id: int | str | None = None


def connect(machine: MachineActions, given: Arguments) -> None:
    path = given.get("path")
    machine.connect(device_in(given), None if path is None else place_in(given))


def take_snapshot(machine: MachineActions, given: Arguments) -> object:
    texts = [characters(given.get(name, ""), name) for name in ("name", "description")]
    return machine.take_snapshot(*texts, memory=given.get("memory", False))


SNAPSHOT_ACTIONS: dict[str, Callable[[MachineActions, Arguments], object]] = {
    "list": lambda machine, given: machine.list_snapshots(),
    "take": take_snapshot,
    "revert": lambda machine, given: machine.revert_snapshot(snapshot_in(given)),
    "delete": lambda machine, given: machine.delete_snapshot(
        snapshot_in(given), children=given.get("children", False)
    ),
    "delete-all": lambda machine, given: machine.delete_all_snapshots(),
    "consolidate": lambda machine, given: machine.consolidate(),
}


def snapshot(machine: MachineActions, given: Arguments) -> object:
    act = SNAPSHOT_ACTIONS.get(given["action"])
    if act is None:
        asked = characters(given["action"], "action")[:SHOWN_CHARACTERS]
        known = ", ".join(SNAPSHOT_ACTIONS)
        raise BadOption(f"snapshot {asked}: expected one of {known} while the machine runs")
    return act(machine, given)


def snapshot_in(given: Arguments) -> str:
    """Raises BadOption."""
    if "snapshot" not in given:
        raise BadOption(f"snapshot {given['action']}: expected a snapshot's number or name")
    return characters(given["snapshot"], "snapshot")


HANDLERS: dict[str, Callable[[MachineActions, Arguments], object]] = {
    "start": lambda machine, given: machine.start(),
    "stop": lambda machine, given: machine.stop(hard=given.get("hard", False)),
    "reset": lambda machine, given: machine.reset(),
    "suspend": lambda machine, given: machine.suspend(),
    "resume": lambda machine, given: machine.resume(),
    "status": lambda machine, given: machine.status(),
    "connect": connect,
    "disconnect": lambda machine, given: machine.disconnect(device_in(given)),
    "eject": lambda machine, given: machine.eject(device_in(given), force=given.get("force", False)),
    "screenshot": lambda machine, given: machine.screenshot(path_in(given)),
    "send-keys": lambda machine, given: machine.send_keys(text_in(given)),
    "console": lambda machine, given: machine.console(),
    "answer": lambda machine, given: machine.answer(text_in(given)),
    "snapshot": snapshot,
}
assert HANDLERS.keys() == VERBS == ARGUMENTS.keys()


def parse_request(line: bytes) -> Request:
    """Raises BadOption for what is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadOption(f"request: expected one JSON object on a line, found none ({error})") from None
    if not isinstance(message, dict) or not isinstance(message.get("verb"), str):
        raise BadOption('request: expected an object with "verb"')
    verb, arguments, id_ = message["verb"], message.get("args", {}), message.get("id")
    if isinstance(id_, bool) or not isinstance(id_, int | str | None):
        raise BadOption("id: expected a number or a text")
    if verb not in VERBS:
        raise BadOption(f"{verb[:SHOWN_CHARACTERS]!r}: expected one of {', '.join(sorted(VERBS))}")
    if not isinstance(arguments, dict):
        raise BadOption(f"{verb}: expected an object as args")
    check_arguments(verb, arguments)
    return Request(verb, arguments, id_)


def check_arguments(verb: str, arguments: Arguments) -> None:
    """Raises BadOption for one that is missing, not known, or of another type."""
    known = ARGUMENTS[verb]
    for name, value in arguments.items():
        if name not in known:
            raise BadOption(f"{verb}: {name[:SHOWN_CHARACTERS]!r} is no argument of it")
        if not isinstance(value, known[name][0]):
            raise BadOption(f"{verb}: {name}: expected a {known[name][0].__name__}")
        if isinstance(value, str) and len(value) > TEXT_CHARACTERS_MAX:
            raise BadOption(f"{verb}: {name}: expected at most {TEXT_CHARACTERS_MAX} characters")
    for name, (_, required) in known.items():
        if required and name not in arguments:
            raise BadOption(f"{verb}: expected {name}")


def perform(request: Request, machine: MachineActions, log: Log) -> bytes:
    """Do it; the answer, a line. An action's failure is an answer too."""
    if request.verb not in QUIET:
        log.write(f"CONTROL {request.verb} {json.dumps(request.arguments) if request.arguments else ''}".rstrip())
    try:
        after(machine.power_state(), request.verb)
        result = HANDLERS[request.verb](machine, request.arguments)
        return success(result, request.id)
    except RingfenceError as error:
        log.write(f"CONTROL {request.verb} failed: {error}")
        return failure(error, request.id)
    except Exception as error:  # noqa: BLE001 - a defect in one action is no reason to leave the machine uncontrolled
        log.write(f"CONTROL {request.verb} failed: {type(error).__name__}: {error}")
        return failure(RingfenceError(f"{request.verb}: internal error: {type(error).__name__}: {error}"), request.id)


def success(result: object, id_: int | str | None) -> bytes:
    return line_of({"ok": True, "result": plain(result)}, id_)


def failure(error: RingfenceError, id_: int | str | None = None) -> bytes:
    return line_of({"ok": False, "error": str(error), "kind": type(error).__name__}, id_)


def line_of(message: dict[str, Any], id_: int | str | None) -> bytes:
    if id_ is not None:
        message["id"] = id_
    return json.dumps(message).encode() + b"\n"


def plain(value: object) -> object:
    """As JSON has it: data classes as objects, enumerations by their values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(part) for name, part in asdict(value).items()}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


# arguments


def device_in(given: Arguments) -> str:
    """Raises BadOption for what cannot be a device's name; whether there is one is the machine's to say."""
    device: str = given["device"]
    if not DEVICE.fullmatch(device):
        raise BadOption(f"{device[:SHOWN_CHARACTERS]!r}: expected a device, such as ide1:0 or serial0")
    return device.lower()


def place_in(given: Arguments) -> Place:
    """A file of the host, a volume or a datastore. Raises BadOption for one that is not absolute."""
    text: str = given["path"]
    return resolve(text) if in_brackets(text) is not None and "\0" not in text else resolve(str(path_in(given)))


def path_in(given: Arguments) -> Path:
    """Raises BadOption for one that is not absolute: our working directory is not the caller's."""
    text: str = given["path"]
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded.startswith(b"/") or b"\0" in encoded:
        raise BadOption(f"{text[:SHOWN_CHARACTERS]!r}: expected an absolute path")
    return Path(text)


def text_in(given: Arguments) -> str:
    return characters(given["text"], "text")


def characters(text: str, name: str) -> str:
    """Raises BadOption for what no file and no keyboard has."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadOption(f"{name}: expected characters, found half a surrogate pair or a NUL")
    return text
