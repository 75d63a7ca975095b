"""A host that changes a volume as fast as it can, beside others: a program of its own for tests of two hosts.

`python contender.py IMAGE NAME COUNT SEED here|elsewhere`: says each change on its standard output once it is durable,
a line each. `elsewhere`: as a host of another machine, of which nobody here can know whether it is gone.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

from ringfence.errors import RingfenceError
from vmkernel.storage.vmfs3.errors import AlreadyThere, FileLocked, NoSuchFile
from vmkernel.storage.vmfs3.host import Host, Process
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

EVERY = 5  # changes are made durable together


def main(image: str, name: str, count: str, seed: str, where: str) -> None:
    chance = random.Random(int(seed))
    host = Host() if where == "here" else replace(Host(), process=Process(b"another machine!", 1, 1))
    with open_for_writing([Path(image)], host) as volume:
        say("ready")
        sys.stdin.readline()
        said: list[str] = []
        mine: list[str] = []
        for number in range(int(count)):
            said += change(volume, chance, name, number, mine)
            if number % EVERY == EVERY - 1:
                volume.sync()
                say(*said)
                said = []
        volume.sync()
        say(*said, "done")


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def change(volume: WritableVolume, chance: random.Random, name: str, number: int, mine: list[str]) -> list[str]:
    """One change in the shared directory; what it was."""
    kind = chance.choice(("create", "create", "remove", "rename", "contest"))
    if kind in ("remove", "rename") and not mine:
        kind = "create"
    if kind == "create":
        path = f"/shared/{name}-{number}"
        volume.create(path)
        with volume.open_for_write(path) as file:
            file.write(0, [path.encode()])
        mine.append(path)
        return [f"+{path}"]
    if kind == "remove":
        path = mine.pop(chance.randrange(len(mine)))
        volume.remove(path)
        return [f"-{path}"]
    if kind == "rename":
        index = chance.randrange(len(mine))
        old, new = mine[index], f"/shared/{name}-{number}-moved"
        volume.rename(old, new)
        mine[index] = new
        return [f"-{old}", f"+{new}"]
    return contest(volume, chance)


def contest(volume: WritableVolume, chance: random.Random) -> list[str]:
    """Names that both hosts want: who makes one has made it, who removes it has removed it, and only one has."""
    path = f"/shared/contest{chance.randrange(3)}"
    try:
        volume.create(path)
        return [f"won {path}"]
    except AlreadyThere:
        pass
    try:
        volume.remove(path)
        return [f"lost {path}"]
    except (NoSuchFile, FileLocked):
        return []


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RingfenceError as error:
        say(f"error {type(error).__name__}: {error}")
        sys.exit(2)
