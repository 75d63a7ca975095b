"""Frames that wait for one machine, apart by who sent them: nobody has the queue, or the machine's time, for itself.

While the machine keeps up, or only one sends to it, a message has as much as there is. Where several send more than it
takes, a message has little, so that little is under way, and what goes next is chosen: of those whom the machine has
lately sent something, up to ANSWERED frames by turns, and now and then OTHERS of those who only send. So a machine that
is flooded gets on with those it speaks with; one that answers the flood shares itself out evenly. Frames from outside,
and those of ports above their bandwidth, are not told apart, and count as of somebody it speaks with.
A sender may have twice as many frames here as there is room left for others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from vmkernel.host.messages import BATCH_BYTES

FRAMES_MAX = 1536  # of all senders; one alone may have 1,024
SENDERS_MAX, SPOKEN_MAX = 64, 256
ANSWERED, OTHERS, TOGETHER = 24, 16, 8  # in one message
OTHERS_NS = 2_000_000  # between two that have some of those who only send: 8,000 frames a second, 97 Mbit/s and less
PAUSE_NS = 50_000_000  # after which it does not wait for those it speaks with
LATELY_NS = 1_000_000_000


class Inbox:
    """Time is in nanoseconds and never goes back."""

    __slots__ = ("_last", "_liked_ns", "_picked", "_rows", "_spoken", "contended_ns", "due_ns", "is_mixed", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.contended_ns = -LATELY_NS  # when several last had something here
        self.due_ns = 0
        self.is_mixed = False  # since it was set to this: not all were of one sender
        self._last: Hashable = None
        self._liked_ns = -LATELY_NS
        self._rows: dict[Hashable, deque[bytes]] = {}
        self._picked: list[Hashable] = []
        self._spoken: dict[bytes, int] = {}

    def put(self, sender: Hashable, frame: bytes) -> bool:
        """Whether there was room."""
        if sender is not self._last:
            self._last, self.is_mixed = sender, True
        row = self._rows.get(sender)
        if row is None:
            if len(self._rows) >= SENDERS_MAX or self.waiting >= FRAMES_MAX:
                return False
            row = self._rows[sender] = deque()
        elif len(row) >= 2 * (FRAMES_MAX - self.waiting):
            return False
        row.append(frame)
        self.waiting += 1
        return True

    @property
    def is_contended(self) -> bool:
        return len(self._rows) > 1

    def spoke(self, address: bytes, now_ns: int) -> None:
        """The machine has sent something to this address."""
        if len(self._spoken) >= SPOKEN_MAX and address not in self._spoken:
            self._spoken = {one: at for one, at in self._spoken.items() if now_ns - at < LATELY_NS}
        if len(self._spoken) < SPOKEN_MAX:
            self._spoken[address] = now_ns

    def _likes(self, sender: Hashable, now_ns: int) -> bool:
        address = getattr(sender, "address", None)
        return address is None or now_ns - self._spoken.get(address, -LATELY_NS) < LATELY_NS

    def next(self) -> list[bytes]:
        """Of one sender, as much as a message has. `sent` says how many of these went."""
        sender, row = next(iter(self._rows.items()))
        frames: list[bytes] = []
        size = 0
        for frame in row:
            size += len(frame)
            if size > BATCH_BYTES and frames:
                break
            frames.append(frame)
        self._picked = [sender] * len(frames)
        return frames

    def choose(self, now_ns: int) -> list[bytes]:
        """What is to go next of all of them; nothing before `due_ns`. `sent` says how many of these went."""
        rows = self._rows
        if len(rows) > 1:
            self.contended_ns = now_ns
        self._picked = []
        liked = [one for one in rows if self._likes(one, now_ns)]
        frames = self._by_turns(liked, ANSWERED)
        if frames:
            self._liked_ns = now_ns
        elif now_ns - self._liked_ns > PAUSE_NS:
            return self._by_turns(list(rows), TOGETHER)
        if now_ns >= self.due_ns and len(liked) < len(rows):
            self.due_ns = now_ns + OTHERS_NS
            frames += self._by_turns([one for one in rows if one not in liked], OTHERS)
        return frames

    def _by_turns(self, senders: list[Hashable], most: int) -> list[bytes]:
        """The first of each, the second of each, and so on."""
        frames: list[bytes] = []
        for depth in range(most):
            before = len(frames)
            for one in senders:
                if depth < len(self._rows[one]) and len(frames) < most:
                    frames.append(self._rows[one][depth])
                    self._picked.append(one)
            if len(frames) == before:
                break
        return frames

    def sent(self, count: int) -> None:
        """The first so many of what was given last. Who has had his turn is behind the others."""
        rows = self._rows
        for sender in self._picked[:count]:
            rows[sender].popleft()
        for sender in dict.fromkeys(self._picked[:count]):
            row = rows.pop(sender)
            if row:
                rows[sender] = row
        self.waiting -= count
