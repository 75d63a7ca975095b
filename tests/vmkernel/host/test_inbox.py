"""What waits for one machine: who sends how much of what it gets next, with a clock that is turned."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from vmkernel.host.inbox import ANSWERED, FRAMES_MAX, LATELY_NS, OTHERS, OTHERS_NS, PAUSE_NS, SENDERS_MAX, Inbox

START_NS = (1 << 40) - 5
LONE_MAX = 1024


@dataclass(frozen=True)
class Sender:
    address: bytes


PEER, SECOND_PEER, FLOODER = Sender(b"peer"), Sender(b"other"), Sender(b"flood")


def number(frame: bytes) -> int:
    return int.from_bytes(frame, "big")


def drain(inbox: Inbox, now_ns: int) -> list[bytes]:
    """All that may go now."""
    frames: list[bytes] = []
    while inbox.waiting and (some := inbox.choose(now_ns)):
        inbox.sent(len(some))
        frames += some
    return frames


def test_one_sender_has_a_thousand_frames_and_another_still_has_room() -> None:
    inbox = Inbox()
    assert sum(inbox.put(FLOODER, b"f") for _ in range(5000)) == LONE_MAX
    assert sum(inbox.put(PEER, b"p") for _ in range(5000)) > LONE_MAX // 4
    assert inbox.waiting <= FRAMES_MAX


def test_a_senders_frames_stay_in_their_order() -> None:
    inbox, pick, now = Inbox(), random.Random(3), START_NS
    put: dict[Sender, int] = dict.fromkeys((PEER, SECOND_PEER, FLOODER), 0)
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}
    inbox.spoke(PEER.address, now)
    senders = list(put)
    for _ in range(3000):
        one = pick.choice(senders)
        index = senders.index(one)
        if inbox.put(one, (put[one] * 3 + index).to_bytes(4, "big")):
            put[one] += 1
        if pick.random() < 0.1:
            frames = inbox.choose(now) if pick.random() < 0.5 else inbox.next() if inbox.waiting else []
            gone = pick.randrange(len(frames) + 1)
            inbox.sent(gone)
            for frame in frames[:gone]:
                got[number(frame) % 3].append(number(frame) // 3)
            now += OTHERS_NS // 2
    for frame in drain(inbox, now + LATELY_NS):
        got[number(frame) % 3].append(number(frame) // 3)
    assert [got[index] for index in range(3)] == [list(range(put[one])) for one in senders]
    assert inbox.waiting == 0


def test_who_is_answered_comes_first_and_a_flood_has_some_now_and_then() -> None:
    inbox, now = Inbox(), START_NS
    counts = {b"p": 0, b"f": 0}
    for _ in range(1000):
        now += 100_000
        inbox.spoke(PEER.address, now)
        for _ in range(ANSWERED):
            inbox.put(PEER, b"p")
        for _ in range(100):
            inbox.put(FLOODER, b"f")
        for frame in drain(inbox, now):
            counts[frame] += 1
    assert counts[b"p"] == 1000 * ANSWERED
    assert counts[b"f"] == pytest.approx(1000 * 100_000 / OTHERS_NS * OTHERS, rel=0.05)


def test_without_anybody_who_is_answered_all_take_turns() -> None:
    inbox = Inbox()
    for _ in range(100):
        inbox.put(PEER, b"p")
        inbox.put(FLOODER, b"f")
    assert drain(inbox, START_NS)[:16] == [b"p", b"f"] * 8


def test_a_flood_goes_on_when_those_who_are_answered_have_nothing_more_to_say() -> None:
    inbox = Inbox()
    inbox.spoke(PEER.address, START_NS)
    inbox.put(PEER, b"p")
    for _ in range(500):
        inbox.put(FLOODER, b"f")
    assert drain(inbox, START_NS) == [b"p"] + [b"f"] * OTHERS
    assert inbox.due_ns == START_NS + OTHERS_NS
    assert len(drain(inbox, START_NS + PAUSE_NS + 1)) == 500 - OTHERS


def test_who_is_answered_is_so_for_a_second() -> None:
    inbox = Inbox()
    inbox.spoke(PEER.address, START_NS)
    for now, first in ((START_NS + LATELY_NS - 1, [b"p"] * 5), (START_NS + 2 * LATELY_NS, [b"f", b"p"] * 2 + [b"f"])):
        for _ in range(10):
            inbox.put(FLOODER, b"f")
            inbox.put(PEER, b"p")
        assert inbox.choose(now)[:5] == first
        inbox.sent(0)
        drain(inbox, now + 3 * LATELY_NS)


def test_there_is_an_end_to_senders_and_to_addresses() -> None:
    inbox = Inbox()
    for one in range(10_000):
        inbox.put(Sender(one.to_bytes(6, "big")), b"x")
        inbox.spoke(one.to_bytes(6, "big"), START_NS)
    assert inbox.waiting == SENDERS_MAX
    assert len(inbox._spoken) <= 256
