"""`ringfence vm NAME snapshot ...`: take, list, return to and delete snapshots of a machine, whether it runs or not."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption

if TYPE_CHECKING:
    from vmkernel.storage.place import Place
    from vmx.registry import Entry

TAKE, LIST, REVERT, DELETE, DELETE_ALL, CONSOLIDATE = "take", "list", "revert", "delete", "delete-all", "consolidate"
COMMIT, DISCARD = "commit", "discard"
REDO_LOGS = frozenset({COMMIT, DISCARD})
# What follows an action: the least and the most words, and their name in messages.
ACTIONS: dict[str, tuple[int, int, str]] = {
    TAKE: (1, 1, "NAME"), LIST: (0, 0, "nothing"), REVERT: (1, 1, "SNAPSHOT"), DELETE: (1, 1, "SNAPSHOT"),
    DELETE_ALL: (0, 0, "nothing"), CONSOLIDATE: (0, 0, "nothing"), COMMIT: (0, 1, "a disk"), DISCARD: (0, 1, "a disk"),
}  # fmt: skip
FOLDING_TIMEOUT_S = 86_400.0  # for a machine that copies what its snapshots have
WHERE_ALLOWED = {"description": TAKE, "memory": TAKE, "children": DELETE}
US_PER_S = 1_000_000


def add_options(vm: argparse.ArgumentParser) -> None:
    """Of the verb `snapshot`."""
    vm.add_argument("--description", metavar="TEXT", help="with snapshot take: what a person should know of it")
    vm.add_argument("--memory", action="store_true", help="with snapshot take: the memory of the running machine too")
    vm.add_argument("--children", action="store_true", help="with snapshot delete: and all that descend from it")


def check(options: argparse.Namespace) -> None:
    """Raises BadOption for words that make no order."""
    words = options.operands if options.order == "snapshot" else []
    action = words[0] if words else ""
    for name, needed in WHERE_ALLOWED.items():
        if getattr(options, name) and action != needed:
            raise BadOption(f"--{name}: expected with snapshot {needed} only")
    if options.order == "snapshot":
        if action not in ACTIONS:
            raise BadOption(f"vm snapshot: expected one of {', '.join(ACTIONS)}, found {action or 'nothing'}")
        low, high, name = ACTIONS[action]
        if not low <= len(words) - 1 <= high:
            found = " ".join(words[1:]) or "nothing"
            raise BadOption(f"vm snapshot {action}: expected {name} after it, found {found}")


def snapshot(found: Entry | Place, options: argparse.Namespace) -> Any:
    """Do it; the answer, as JSON has it. Raises a RingfenceError."""
    from vmx.registry import Entry

    action, *rest = options.operands
    if not isinstance(found, Entry):
        return off(found, action, rest, options)
    from vmx.control_client import ask

    arguments: dict[str, object] = {"action": action}
    if action == TAKE:
        arguments |= {"name": rest[0], "description": options.description or "", "memory": options.memory}
    elif action in {REVERT, DELETE}:
        arguments["snapshot"] = rest[0]
    if action == DELETE:
        arguments["children"] = options.children
    if action in REDO_LOGS:
        raise BadOption(f"vm snapshot {action}: expected a machine that is off: {found.name} runs")
    return ask(Path(found.socket), "snapshot", FOLDING_TIMEOUT_S, **arguments)


def off(vmx: Place, action: str, rest: list[str], options: argparse.Namespace) -> Any:
    """For a machine that does not run."""
    from vmx import snapshot_modes, snapshots
    from vmx.control import plain

    if action == LIST:
        return plain(snapshots.list_snapshots(vmx))
    if options.memory:
        raise BadOption(f"--memory: expected a machine that runs: {vmx} does not")
    with Shown() as shown, snapshots.switched_off(vmx, shown) as files:
        if action == TAKE:
            now_us = int(time.time() * US_PER_S)
            made = snapshots.take(files, rest[0], options.description or "", now_us)
            return {"uid": made.uid, "name": made.name, "memory": False}
        if action == REVERT:
            return {"notes": snapshots.revert(files, snapshots.find_snapshot(vmx, rest[0]))}
        if action == DELETE:
            snapshots.delete(files, snapshots.find_snapshot(vmx, rest[0]), with_children=options.children)
        elif action == DELETE_ALL:
            snapshots.delete_all(files)
        elif action in REDO_LOGS:
            return {"notes": snapshot_modes.decide(files, action, *rest)}
        else:
            snapshots.consolidate(files)
    return None


class Shown:
    """How far folding is, on a terminal; nothing elsewhere."""

    def __enter__(self) -> Shown:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, Any] = {}
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, link: str, done: int, total: int) -> None:
        if link not in self._tasks:
            self._tasks[link] = self._progress.add_task(link, total=total)
        self._progress.update(self._tasks[link], completed=done)


def text(action: str, result: Any) -> str:
    """What is printed; empty for nothing."""
    if action == LIST:
        return tree_text(result)
    if action == TAKE:
        stood = f", the machine stood still for {result['stun_ms']:.1f} ms" if "stun_ms" in result else ""
        return f"snapshot {result['uid']}{stood}"
    lines = [f"note: {note}" for note in (result or {}).get("notes", ())]
    if action == REVERT and (state := (result or {}).get("power_state")):
        lines.append("the machine runs from the snapshot" if state == "poweredOn" else "the machine is off")
    if (result or {}).get("stuns_ms"):
        times = ", ".join(f"{stun:.1f}" for stun in result["stuns_ms"])
        lines.append(f"the machine stood still for {times} ms")
    return "\n".join(lines)


def tree_text(rows: list[dict[str, Any]]) -> str:
    """A line for each snapshot, under the one that it was taken after; then where the machine is."""
    if not rows:
        return "no snapshots"
    lines: list[str] = []

    def branch(parent: int, depth: int) -> None:
        for row in (row for row in rows if row["parent"] == parent):
            lines.append("  " * depth + row_text(row))
            branch(row["uid"], depth + 1)
            if row["current"]:
                lines.append("  " * (depth + 1) + "* you are here")

    branch(0, 0)
    if not any(row["current"] for row in rows):
        lines.append("* you are here")
    return "\n".join(lines)


def row_text(row: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(row["created_us"] / US_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
    line = f"{row['uid']} {row['name']!r} {when}{', with memory' if row['memory'] else ''}"
    line += f": {' '.join(row['description'].split())}" if row["description"] else ""
    return line + (f" (missing: {', '.join(row['missing'])})" if row["missing"] else "")
