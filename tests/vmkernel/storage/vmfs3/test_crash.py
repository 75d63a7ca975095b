"""A host that dies at any write: the next one finds all that was acknowledged, and a volume that is right."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.vmkernel.storage.vmfs3.hosts import (
    MIB,
    ONE_EXTENT,
    SteppedClock,
    get,
    gone,
    make,
    opened,
    put,
    somewhere,
    tree,
)
from tests.vmkernel.storage.vmfs3.power import Films, Tape, recorded
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.host import Host
from vmkernel.storage.vmfs3.writable import WritableVolume

DISK_ID = bytes(range(78))


@dataclass
class Story:
    """What a host did: after so many writes, this is what the volume held; `synced`: and it was acknowledged."""

    tape: Tape
    moments: list[tuple[int, dict[str, object], bool]]

    def allowed(self, moment: int) -> list[dict[str, object]]:
        """What may be found when the host died just before this write."""
        last = max((index for index, (at, _, synced) in enumerate(self.moments) if synced and at <= moment), default=0)
        return [state for _, state, _ in self.moments[last:]]


Step = Callable[[WritableVolume], None]


def steps(chance: random.Random) -> list[Step]:
    """Operations that touch every kind of structure."""
    small, large = chance.randbytes(300), chance.randbytes(2 * MIB + 700)
    return [
        lambda v: v.mkdir("/d"),
        lambda v: v.create("/d/one"),
        lambda v: put(v, "/d/one", small),
        lambda v: v.mkdir("/d/e"),
        lambda v: put(v, "/d/two", small[:100]),
        lambda v: v.rename("/d/one", "/d/e/moved"),
        lambda v: put(v, "/large", large),
        lambda v: v.symlink("d/two", "/link"),
        lambda v: v.create_rdm("/lun", DISK_ID, 5 << 30),
        lambda v: v.rename("/d/e/moved", "/d/two"),
        lambda v: put(v, "/d/two", large[: 70 << 10]),
        lambda v: shorten(v, "/large", 100),
        lambda v: v.rename("/d/e", "/f"),
        lambda v: v.rmdir("/f"),
        lambda v: v.remove("/large"),
        lambda v: put(v, "/again", large),
        lambda v: put(v, "/sparse", small, 300 * MIB),
        lambda v: v.remove("/sparse"),
        lambda v: [v.create(f"/many{number}") for number in range(40)] and None,
        lambda v: [v.remove(f"/many{number}") for number in range(0, 40, 2)] and None,
        *[lambda v: fill_and_empty(v, small, large) for _ in range(4)],
    ]  # fmt: skip


def fill_and_empty(volume: WritableVolume, small: bytes, large: bytes) -> None:
    """Everything free is taken, given back, and taken by files of another kind."""
    volume.mkdir("/reused")
    volume.create("/reused/name")
    volume.sync()
    volume.remove("/reused/name")
    volume.rmdir("/reused")
    for number in range(3):
        put(volume, f"/small{number}", small)
    put(volume, "/large1", large)
    volume.sync()
    volume.remove("/large1")
    put(volume, "/large2", large[::-1])
    volume.remove("/large2")
    for number in range(3):
        volume.remove(f"/small{number}")


def shorten(volume: WritableVolume, path: str, size: int) -> None:
    with volume.open_for_write(path) as file:
        file.truncate(size)


def tell(paths: list[Path], chance: random.Random, host: Host, sync_every: int) -> Story:
    """The whole life of a host, recorded."""
    with recorded() as tape:
        volume = opened(paths, host=host)
        moments: list[tuple[int, dict[str, object], bool]] = [(0, tree(volume), True)]
        operate = volume.session.operate

        def operating(*arguments: Any) -> Any:
            answer = operate(*arguments)
            moments.append((len(tape.writes), tree(volume), False))
            return answer

        volume.session.operate = operating  # type: ignore[method-assign]
        for number, step in enumerate(steps(chance)):
            step(volume)
            if number % sync_every == sync_every - 1:
                volume.sync()
                moments.append((len(tape.writes), moments[-1][1], True))
            if number % 3 == 0:
                volume.settle()
        volume.close()
        moments.append((len(tape.writes), moments[-1][1], True))
    return Story(tape, moments)


def judge(paths: list[Path], story: Story, moment: int, by: Host, clock: SteppedClock) -> None:
    """Another host, or the same one started again, finds a volume that is right."""
    volume = opened(paths, clock, by)
    clock.advance(17)
    volume.session.recover()
    found = tree(volume)
    allowed = story.allowed(moment)
    assert found in allowed, f"at write {moment}: {sorted(found)}"
    put(volume, "/new", b"written after the crash")
    assert get(volume, "/new") == b"written after the crash"
    volume.close()
    wrong = check(paths)
    assert not wrong, f"at write {moment}: " + "\n".join(map(str, wrong))


def moments(story: Story, count: int, chance: random.Random) -> list[tuple[int, int]]:
    """(write, sectors of it): each write that is cut off before, and some that are torn."""
    writes = story.tape.writes
    found = [(number, 0) for number in range(len(writes) + 1)]
    for number, write in enumerate(writes):
        if write.sectors > 1:
            found += [(number, chance.randrange(1, write.sectors)) for _ in range(2)]
    chance.shuffle(found)
    return sorted(found[:count])


def take_up(volume: WritableVolume) -> None:
    """Leaves so little room that what is freed is used again at once."""
    volume.create("/taken")
    with volume.open_for_write("/taken") as file:
        file.reserve(volume.free_bytes() - 9 * MIB, Provision.THICK)


def crash(folder: Path, count: int, seed: int, *, same_machine: bool) -> int:
    chance = random.Random(seed)
    paths = make(folder, ONE_EXTENT, counts=Counts(fds=70, pbs=2, sbs=6, fds_per_cluster=32))
    with opened(paths) as volume:
        take_up(volume)
    host = replace(Host(), process=gone()) if same_machine else somewhere()
    story = tell(paths, chance, host, chance.choice((1, 2, 5, 50)))
    films = Films(story.tape)
    chosen = moments(story, count, chance)
    for moment, torn in chosen:
        with films.cut(moment, torn):
            judge(paths, story, moment, Host(), SteppedClock(1))
    for moment in sorted(chance.sample(range(len(story.tape.writes) + 1), min(count // 2, len(story.tape.writes)))):
        with films.outage(moment, chance):
            judge(paths, story, moment, Host(), SteppedClock(1))
    films.close()
    return len(chosen) + count // 2


@pytest.mark.parametrize("same_machine", [False, True], ids=["by another host", "by the machine itself"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, same_machine: bool) -> None:
    crash(tmp_path, 60, 1, same_machine=same_machine)


@pytest.mark.long
def test_nothing_acknowledged_is_lost_at_ten_thousand_moments(tmp_path: Path) -> None:
    done, seed = 0, 100
    while done < 10_000:
        folder = tmp_path / str(seed)
        folder.mkdir()
        done += crash(folder, 2_000, seed, same_machine=seed % 2 == 1)
        seed += 1
