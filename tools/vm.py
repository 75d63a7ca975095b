"""`ringfence vm`: switch machines on and off, look at them, and change what is plugged into them."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tools import vm_snapshot

if TYPE_CHECKING:
    from vmkernel.storage.place import Place
    from vmx.registry import Entry, Registry

DESCRIPTION = "Control a machine that is described by a .vmx file."
EPILOG = """\
verbs:
  start                  switch on, in the background; resumes a suspended machine
  stop [--hard]          press the power button; --hard switches off at once
  reset                  as the reset button
  suspend, resume        write everything to a file and end; go on from there
  status                 power state, uptime, processors, memory, devices
  connect DEVICE [FILE]  plug in, such as serial0 or ide1:0; FILE puts another disc in
  disconnect DEVICE      unplug
  eject DEVICE [--force] open a drive; --force although the guest has locked it
  screenshot FILE        the screen as PNG
  send-keys TEXT         type, or press keys such as ctrl-alt-delete or F2
  snapshot take NAME [--memory] [--description TEXT]
  snapshot list
  snapshot revert|delete SNAPSHOT [--children]
  snapshot delete-all, consolidate
                         SNAPSHOT is a number or a name
  snapshot commit|discard [DISK]
                         what an undoable or append disk has in its redo log; the machine is off
  answer WORD            to the question that status shows, such as retry or abort
  console                attach the terminal to the serial port, or say where the VNC server is

`ringfence vm list` shows all machines. A NAME is a displayName.
"""
LIST = "list"
OFF_S, LOOK_S = 30.0, 0.5
# How many arguments follow a verb, and their name in messages.
OPERANDS: dict[str, tuple[int, int, str]] = {
    "connect": (1, 2, "DEVICE [FILE]"),
    "disconnect": (1, 1, "DEVICE"),
    "eject": (1, 1, "DEVICE"),
    "screenshot": (1, 1, "FILE"),
    "send-keys": (1, 1, "TEXT"),
    "answer": (1, 1, "WORD"),
    "snapshot": (1, 2, "take, list, revert, delete, delete-all, consolidate, commit or discard"),
}
VERBS = (
    "start", "stop", "reset", "suspend", "resume", "status", "connect", "disconnect", "eject", "screenshot",
    "send-keys", "console", "snapshot", "answer",
)  # fmt: skip


def add_vm_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence vm NAME|PATH VERB`."""
    vm = verbs.add_parser(
        "vm", help="control machines: start, stop, status, console, ...", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    vm.add_argument("machine", metavar="NAME|PATH", help="a machine's name or .vmx file, or `list`")
    vm.add_argument("order", nargs="?", metavar="VERB", help="what to do; see below")
    vm.add_argument("operands", nargs="*", metavar="ARG", help="what to do it with")
    vm.add_argument("--json", action="store_true", help="answer as JSON")
    vm.add_argument("--hard", action="store_true", help="with stop: do not ask the guest")
    vm.add_argument("--force", action="store_true", help="with eject: also when the guest has locked the drive")
    vm_snapshot.add_options(vm)
    vm.set_defaults(action=vm_verb)


def vm_verb(options: argparse.Namespace) -> int:
    from vmx.registry import Entry, Registry

    check(options)
    registry = Registry.of_user()
    if options.order is None:
        from vmx.machine_list import list_machines

        rows = list_machines(registry)
        print(json.dumps(rows, indent=2) if options.json else list_text(rows))
        return 0
    found = registry.find(options.machine)
    if options.order == "snapshot":
        result = vm_snapshot.snapshot(found, options)
    elif options.order == "status":
        result = status(options.machine, registry)
    elif not isinstance(found, Entry):
        result = off_order(found, options.order, registry)
    else:
        result = on_order(found, options)
        if options.order == "suspend" or options.hard:
            wait_until_off(found, registry)
    if options.json:
        print(json.dumps({} if result is None else result, indent=2))
    elif options.order == "status":
        print(status_text(result))
    elif options.order == "snapshot":
        if line := vm_snapshot.text(options.operands[0], result):
            print(line)
    elif options.order == "console":
        show_console(result)
    return 0


def check(options: argparse.Namespace) -> None:
    """Raises BadOption for words that make no order."""
    order, operands = options.order, options.operands
    if order is None:
        if options.machine != LIST:
            raise BadOption(f"vm {options.machine}: expected a verb: one of {', '.join(VERBS)}")
    elif order not in VERBS:
        raise BadOption(f"vm: {order}: expected one of {', '.join(VERBS)}")
    low, high, names = OPERANDS.get(order or "", (0, 0, "nothing"))
    if not low <= len(operands) <= high:
        raise BadOption(f"vm {order}: expected {names} after it, found {' '.join(operands) or 'nothing'}")
    vm_snapshot.check(options)
    if options.hard and order != "stop":
        raise BadOption("--hard: expected with stop only")
    if options.force and order != "eject":
        raise BadOption("--force: expected with eject only")


def status(machine: str, registry: Registry) -> Any:
    """From the machine's process, if it has one. Raises BadInput and HostRefused."""
    from vmx.control import plain
    from vmx.machine_list import asked_status, status_of
    from vmx.registry import Entry

    while isinstance(found := registry.find(machine), Entry):
        if (result := asked_status(registry, found)) is not None:
            return result
    return plain(status_of(found))


def off_order(vmx: Place, order: str, registry: Registry) -> Any:
    """For a machine that is not running: it has no process that could be asked."""
    from dataclasses import asdict

    from vmx.detached import ringfence_command, start_detached
    from vmx.machine_list import power_state
    from vmx.power import PowerState, after

    state = power_state(vmx)
    if after(state, order) is PowerState.ON:
        return asdict(start_detached(ringfence_command(vmx), vmx, registry))
    from vmx.vm_process import stop_suspended

    stop_suspended(vmx)  # nothing else is left that a machine without a process can do
    return None


def on_order(entry: Entry, options: argparse.Namespace) -> Any:
    """Ask the machine's process."""
    from vmkernel.storage.datastores import resolve
    from vmx.control_client import ACTION_TIMEOUT_S, QUICK_TIMEOUT_S, ask

    order, operands = options.order, options.operands
    arguments: dict[str, object] = {}
    if order == "stop":
        arguments["hard"] = options.hard
    elif order in {"send-keys", "answer"}:
        arguments["text"] = operands[0]
    elif order == "screenshot":
        arguments["path"] = str(Path(operands[0]).absolute())
    elif operands:
        arguments["device"] = operands[0]
        if len(operands) > 1:
            arguments["path"] = str(resolve(operands[1]).absolute())
    if order == "eject":
        arguments["force"] = options.force
    timeout_s = QUICK_TIMEOUT_S if order == "console" else ACTION_TIMEOUT_S
    return ask(Path(entry.socket), order, timeout_s, **arguments)


def wait_until_off(entry: Entry, registry: Registry) -> None:
    """So that whoever comes next finds the machine switched off. Raises HostRefused."""
    from vmkernel.storage.datastores import resolve
    from vmx.machine_lock import wait_released

    if not entry.vmx:
        return
    for _ in range(int(OFF_S / LOOK_S)):
        if wait_released(resolve(entry.vmx), registry.directory, entry.pid, LOOK_S):
            return
        if question := question_of(entry):
            raise HostRefused(f"{entry.vmx}: the machine is off when this is answered: {question}")
    raise HostRefused(f"{entry.vmx}: process {entry.pid} has not ended after {OFF_S:g} s")


def question_of(entry: Entry) -> str:
    """What the machine asks; empty for nothing, and for one that is just ending."""
    from vmx.control_client import QUICK_TIMEOUT_S, ask

    with suppress(RingfenceError):
        return str(ask(Path(entry.socket), "status", QUICK_TIMEOUT_S).get("question", ""))
    return ""


def show_console(info: dict[str, Any]) -> None:
    """Say where the VNC server is; without one, become the machine's serial terminal."""
    if info.get("vnc"):
        print(f"VNC {info['vnc']}")
        return
    from vmx.console_attach import attach

    attach(str(info.get("serial", "")))


def list_text(rows: list[dict[str, Any]]) -> str:
    """A line for each machine: name, state, process, file."""
    if not rows:
        return "no machines"
    cells = [(row["name"], row["power_state"], str(row["pid"] or "-"), row["vmx"] or "-") for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    return "\n".join(
        f"{name:{widths[0]}}  {state:{widths[1]}}  {pid:>{widths[2]}}  {vmx}" for name, state, pid, vmx in cells
    )


def status_text(status: dict[str, Any]) -> str:
    """What `status` prints, one fact a line."""
    facts = [
        ("name", status["name"]), ("power state", status["power_state"]), ("process", status["pid"] or ""),
        ("file", status["vmx"]), ("engine", status["engine"]), ("processors", status["vcpus"]),
        ("memory", f"{status['memory_mib']} MiB"), ("uptime", uptime_text(status["uptime_s"])), ("VNC", status["vnc"]),
    ]  # fmt: skip
    lines = [f"{name:12} {value}" for name, value in facts if value != ""]
    for device in status["devices"]:
        state = "connected" if device["connected"] else "not connected"
        lines.append(f"{device['device']:12} {device['kind']}, {state}, {device['backing'] or 'empty'}")
    if status.get("question"):
        lines.append(f"{'question':12} {status['question']}")
    if status["unknown_keys"]:
        lines.append(f"{'unknown keys':12} {', '.join(status['unknown_keys'])}")
    return "\n".join(lines)


def uptime_text(seconds: float) -> str:
    """`3 h 05 min 07 s`; nothing for a machine that is off."""
    if not seconds:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s" if hours else f"{minutes} min {rest:02} s"
