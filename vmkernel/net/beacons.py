"""Beacon probing: every uplink of a switch sends a probe each second, which its other uplinks should hear.

Probes go into the VLAN of every port group that wants them, with its tag, for a switch outside may carry one VLAN to
an uplink and not another. Who hears none for three seconds is deaf there: for the port groups of that VLAN it is down,
though its link is up. When nobody hears anything in a VLAN, it cannot be told who is cut off: all are suspect.
Source: ESX Server 3 Configuration Guide, "Network Failover Detection".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vmkernel.net.frames import beacon, beacon_sender, tagged
from vmkernel.net.team import Uplink

INTERVAL_NS = 1_000_000_000
SILENCE_NS = 3 * INTERVAL_NS
PAIR = 2


class Beacons:
    """Of one switch. `token`, 16 bytes, tells its probes from all others. VLAN 0: probes have no tag."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._heard_ns: dict[int, dict[Uplink, int]] = {}
        self._deaf: dict[int, frozenset[Uplink]] = {}
        self._suspect: frozenset[int] = frozenset()
        self._sequence = 0
        self.next_ns: int | None = None  # when `tick` is due; None: beacons are off

    def switch_on(self, vlans: Iterable[int], now_ns: int) -> None:
        """A level: where to probe. `judge` has to follow."""
        wanted = set(vlans)
        self._heard_ns = {vlan: self._heard_ns.get(vlan, {}) for vlan in sorted(wanted)}
        if not wanted:
            self.next_ns = None
        elif self.next_ns is None:
            self.next_ns = now_ns

    def heard(self, uplink: Uplink, vlan: int, frame: bytes, now_ns: int) -> bool:
        """Is this beacon, which has no tag any more, one of ours? What an uplink hears of itself proves nothing."""
        sender = beacon_sender(frame, self._token)
        if sender is not None and sender != uplink.number and vlan in self._heard_ns:
            self._heard_ns[vlan][uplink] = now_ns
        return sender is not None

    def tick(self, uplinks: Sequence[Uplink], now_ns: int) -> list[tuple[Uplink, bytes]]:
        """The probes that are due."""
        if self.next_ns is None or now_ns < self.next_ns:
            return []
        self.next_ns = now_ns + INTERVAL_NS
        self._sequence += 1
        plain = [(one, beacon(one.address, self._token, one.number, self._sequence)) for one in uplinks if one.link]
        return [(one, tagged(probe, vlan)) for vlan in self._heard_ns for one, probe in plain]

    def judge(self, uplinks: Sequence[Uplink], now_ns: int) -> bool:
        """Set what `deaf` and `is_suspect` say; whether anything changed."""
        before = self._deaf, self._suspect
        linked = [uplink for uplink in uplinks if uplink.link]
        hearing = {vlan: hearing_now(times, linked, now_ns) for vlan, times in self._heard_ns.items()}
        judged = len(linked) >= PAIR
        self._suspect = frozenset(vlan for vlan, some in hearing.items() if judged and not some)
        self._deaf = {vlan: frozenset(linked) - some for vlan, some in hearing.items() if judged and some}
        return before != (self._deaf, self._suspect)

    def deaf(self, vlan: int) -> frozenset[Uplink]:
        """Who hears nothing in a VLAN where others hear."""
        return self._deaf.get(vlan, frozenset())

    def is_suspect(self, vlan: int) -> bool:
        """Nobody hears anything there."""
        return vlan in self._suspect

    def deaf_vlans(self, uplink: Uplink) -> list[int]:
        return [vlan for vlan, deaf in self._deaf.items() if uplink in deaf]


def hearing_now(heard_ns: dict[Uplink, int], linked: Sequence[Uplink], now_ns: int) -> frozenset[Uplink]:
    """Who has heard something not long ago. A new link has its time; one that is gone is forgotten."""
    for uplink in linked:
        heard_ns.setdefault(uplink, now_ns)
    for uplink in set(heard_ns) - set(linked):
        del heard_ns[uplink]
    return frozenset(uplink for uplink in linked if now_ns - heard_ns[uplink] <= SILENCE_NS)
