"""Beacon probing: every uplink of a switch sends a probe each second, which its other uplinks should hear.

Who hears none for three seconds is down, though its link is up. When nobody hears anything, it cannot be told who is
cut off: all are suspect. Probes go without a VLAN tag.
Source: ESX Server 3 Configuration Guide, "Network Failover Detection".
"""

from __future__ import annotations

from collections.abc import Sequence

from vmkernel.net.frames import beacon, beacon_sender
from vmkernel.net.team import Uplink

INTERVAL_NS = 1_000_000_000
SILENCE_NS = 3 * INTERVAL_NS
PAIR = 2


class Beacons:
    """Of one switch. `token`, 16 bytes, tells its probes from all others."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._heard_ns: dict[Uplink, int] = {}
        self._sequence = 0
        self.next_ns: int | None = None  # when `tick` is due; None: beacons are off
        self.suspect = False

    def switch_on(self, on: bool, now_ns: int) -> None:
        """A level."""
        if on and self.next_ns is None:
            self.next_ns = now_ns
        elif not on:
            self.next_ns, self.suspect = None, False
            self._heard_ns.clear()

    def heard(self, uplink: Uplink, frame: bytes, now_ns: int) -> bool:
        """Is this beacon one of ours? What an uplink hears of itself proves nothing."""
        sender = beacon_sender(frame, self._token)
        if sender is not None and sender != uplink.number:
            self._heard_ns[uplink] = now_ns
        return sender is not None

    def tick(self, uplinks: Sequence[Uplink], now_ns: int) -> list[tuple[Uplink, bytes]]:
        """The probes that are due."""
        if self.next_ns is None or now_ns < self.next_ns:
            return []
        self.next_ns = now_ns + INTERVAL_NS
        self._sequence += 1
        return [(one, beacon(one.address, self._token, one.number, self._sequence)) for one in uplinks if one.link]

    def judge(self, uplinks: Sequence[Uplink], now_ns: int) -> bool:
        """Set `hears` of each, and `suspect`; whether anything changed."""
        before = [uplink.hears for uplink in uplinks], self.suspect
        linked = [uplink for uplink in uplinks if uplink.link]
        for uplink in linked:
            self._heard_ns.setdefault(uplink, now_ns)  # a new link has its time
        for uplink in set(self._heard_ns) - set(linked):
            del self._heard_ns[uplink]
        judged = self.next_ns is not None and len(linked) >= PAIR
        hearing = {uplink for uplink in linked if now_ns - self._heard_ns[uplink] <= SILENCE_NS}
        self.suspect = judged and not hearing
        for uplink in uplinks:
            uplink.hears = not judged or not hearing or uplink in hearing
        return before != ([uplink.hears for uplink in uplinks], self.suspect)
