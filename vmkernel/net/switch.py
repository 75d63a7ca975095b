"""A virtual switch: frames between ports of a VLAN, and to and from uplinks.

It learns nothing: a port's address comes from its adapter. What no port has goes to an uplink, and nowhere else; what
comes from an uplink never leaves by one. So there are no loops, and no spanning tree.

    port --> length, source, tag --> shaping --> ports of the VLAN, or a tag and an uplink
    uplink --> length, tag --> is it a copy, or our own? --> ports of the VLAN

VLAN of a port group: 0, frames have no tag anywhere; 1 to 4094, they have one on uplinks only, and a port that sends a
tag loses the frame; 4095, ports see and send tags of any VLAN.
Passive: frames in, frames out by `Endpoint.deliver` and `Uplink.send`; time is handed in. Not for several threads.
Source: ESX Server 3 Configuration Guide, "Virtual Switches", "Port Groups", "Virtual Switch Policies".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vmkernel.net.beacons import Beacons
from vmkernel.net.counters import Drop
from vmkernel.net.ethernet_spec import (
    GROUP,
    HEADER_BYTES,
    MTU,
    NO_ADDRESS,
    SOURCE,
    TAG_BYTES,
    TAG_CONTROL,
    TAG_TYPES,
    TAGGED_TYPE,
    TPID,
    TYPE,
    TYPE_BEACON,
    VLAN_NONE,
    VLAN_TRUNK,
)
from vmkernel.net.frames import rarp, tag_vlan, tagged, untagged
from vmkernel.net.policy import Policy
from vmkernel.net.port import Group, Port, Segment, Wanted
from vmkernel.net.shaper import Shaper
from vmkernel.net.team import Team, Uplink

SPECIAL_TYPES = TAG_TYPES | {TYPE_BEACON}
HELD_MAX = 256  # frames of one port above its bandwidth


@dataclass(frozen=True, slots=True)
class GroupSetting:
    """A port group with the policy that counts for it."""

    vlan: int
    policy: Policy


class Switch:
    """`capacity` is how many ports adapters can have."""

    def __init__(self, name: str, capacity: int, token: bytes) -> None:
        self.name, self.capacity = name, capacity
        self.groups: dict[str, Group] = {}
        self.uplinks: list[Uplink] = []
        self.mtu = MTU
        self._segments: dict[int, Segment] = {}
        self._trunks = Segment()
        self._free = list(range(capacity))
        self._length_max = MTU + HEADER_BYTES
        self._held: dict[Port, None] = {}
        self._beacons = Beacons(token)

    # what it consists of

    def set_up(
        self, capacity: int, mtu: int, uplinks: Sequence[Uplink], groups: Mapping[str, GroupSetting], now_ns: int
    ) -> list[Port]:
        """A level. Ports whose group has gone are off; they are returned. A switch may have more ports than it should
        have from here on: nobody is thrown out."""
        self.mtu, self._length_max = mtu, mtu + HEADER_BYTES
        used = {port.number for port in self.ports()}
        self.capacity = capacity
        self._free = [number for number in range(capacity) if number not in used]
        self.uplinks = list(uplinks)
        for number, uplink in enumerate(self.uplinks):
            uplink.number = number
        homeless = []
        for name in [name for name in self.groups if name not in groups]:
            for port in list(self.groups[name].ports):
                self.detach(port)
                homeless.append(port)
            del self.groups[name]
        for name, setting in groups.items():
            self._set_up_group(name, setting, now_ns)
        for vlan in [vlan for vlan, segment in self._segments.items() if not segment.members]:
            del self._segments[vlan]
        self._beacons.switch_on({probed(group) for group in self.groups.values() if group.policy.beacon}, now_ns)
        self.links_changed(now_ns)
        return homeless

    def _set_up_group(self, name: str, setting: GroupSetting, now_ns: int) -> None:
        group = self.groups.get(name)
        if group is None:
            team = Team(setting.policy, self.uplinks)
            self.groups[name] = Group(self, name, setting.vlan, setting.policy, team)
            return
        group.team.set_up(setting.policy, self.uplinks)
        if (group.vlan, group.policy) == (setting.vlan, setting.policy):
            return
        for port in group.ports:
            self._segment_of(group).remove(port)
        shaped_anew = group.policy.shaping != setting.policy.shaping
        group.vlan, group.policy = setting.vlan, setting.policy
        for port in group.ports:
            self._join(port, group, now_ns, shaped_anew=shaped_anew)

    def ports(self) -> Iterable[Port]:
        return (port for group in self.groups.values() for port in group.ports)

    @property
    def used(self) -> int:
        """Ports in use, those of uplinks included, as esxcfg-vswitch counts."""
        return sum(len(group.ports) for group in self.groups.values()) + len(self.uplinks)

    @property
    def is_full(self) -> bool:
        return not self._free

    def attach(self, port: Port, group: Group, now_ns: int) -> None:
        """Put a port in, which is on from here on. There is room: see `is_full`."""
        port.number = heapq.heappop(self._free)
        group.ports[port] = None
        self._join(port, group, now_ns, shaped_anew=True)
        self._settle(port, now_ns)

    def _join(self, port: Port, group: Group, now_ns: int, *, shaped_anew: bool) -> None:
        port.group = group
        port.forged = group.policy.forged_transmits
        if shaped_anew:
            port.shaper = Shaper(group.policy.shaping, now_ns) if group.policy.shaping.enabled else None
        self._segment_of(group).add(port)

    def _segment_of(self, group: Group) -> Segment:
        if group.vlan == VLAN_TRUNK:
            return self._trunks
        return self._segments.setdefault(group.vlan, Segment())

    def detach(self, port: Port) -> None:
        """Take it out: it is off."""
        group = port.group
        if group is None:
            return
        self._segment_of(group).remove(port)
        if group.vlan != VLAN_TRUNK and not self._segments[group.vlan].members:
            del self._segments[group.vlan]
        del group.ports[port]
        group.gone.add(port.counters)
        self._held.pop(port, None)
        port.held.clear()
        if port.number < self.capacity:
            heapq.heappush(self._free, port.number)
        port.group, port.uplink, port.number = None, None, -1

    def want(self, port: Port, wanted: Wanted, now_ns: int) -> None:
        """What the port's adapter wants to receive has changed."""
        moved = wanted.address != port.wanted.address
        if port.group is not None:
            segment = self._segment_of(port.group)
            segment.remove(port)
            port.wanted = wanted
            segment.add(port)
            if moved:
                port.uplink = None
                self._settle(port, now_ns)
        else:
            port.wanted = wanted

    # uplinks

    def set_link(self, uplink: Uplink, up: bool, now_ns: int) -> None:
        if uplink.link != up:
            uplink.link = up
            self.links_changed(now_ns)

    def links_changed(self, now_ns: int) -> None:
        """Ports go where they can go now, and tell the switches outside."""
        self._beacons.judge(self.uplinks, now_ns)
        for group in self.groups.values():
            vlan = probed(group)
            group.team.refresh(self._beacons.deaf(vlan), self._beacons.is_suspect(vlan))
            for port in group.ports:
                self._settle(port, now_ns)

    def deaf_vlans(self, uplink: Uplink) -> list[int]:
        """Where it hears no beacons, and other uplinks do."""
        return self._beacons.deaf_vlans(uplink)

    def _settle(self, port: Port, now_ns: int) -> None:
        group = port.group
        assert group is not None
        uplink = group.team.of_port(port.number, port.wanted.address)
        if uplink is port.uplink:
            return
        port.uplink = uplink
        address = port.wanted.address
        if uplink is not None and group.policy.notify and address != NO_ADDRESS and not address[0] & GROUP:
            uplink.emit(self._for_uplink(group, rarp(address)), now_ns)

    @staticmethod
    def _for_uplink(group: Group, frame: bytes) -> bytes:
        return frame if group.vlan == VLAN_TRUNK else tagged(frame, group.vlan)

    # time

    def next_ns(self, now_ns: int) -> int | None:
        """When `tick` is due."""
        if not self._held:
            return self._beacons.next_ns
        times = [now_ns + port.shaper.wait_ns(now_ns) if port.shaper else now_ns for port in self._held]
        if self._beacons.next_ns is not None:
            times.append(self._beacons.next_ns)
        return min(times, default=None)

    def tick(self, now_ns: int) -> None:
        """Send what was held, and probes."""
        for port in list(self._held):
            self._release(port, now_ns)
        for uplink, probe in self._beacons.tick(self.uplinks, now_ns):
            uplink.emit(probe, now_ns)
        if self._beacons.next_ns is not None and self._beacons.judge(self.uplinks, now_ns):
            self.links_changed(now_ns)

    def _release(self, port: Port, now_ns: int) -> None:
        held, shaper = port.held, port.shaper
        while held and (shaper is None or shaper.admit(len(held[0]), now_ns)):
            self._forward(port, held.popleft(), now_ns)
        if not held:
            del self._held[port]

    # frames from a port

    def transmit(self, port: Port, frame: bytes, now_ns: int) -> int:
        """What the port's adapter sends: how many took it, of ports and uplinks; one for what is held."""
        group, counters = port.group, port.counters
        for capture in port.captures:
            capture.frame(frame, now_ns, outbound=True)
        if group is None:
            return 0
        length, kind = len(frame), frame[TYPE:TAG_CONTROL]
        if length < HEADER_BYTES:
            counters.drops[Drop.RUNT] += 1
            return 0
        if length > self._length_max and (length > self._length_max + TAG_BYTES or kind != TPID):
            counters.drops[Drop.GIANT] += 1
            return 0
        source = frame[SOURCE:TYPE]
        if source != port.wanted.address or source[0] & GROUP:
            if source[0] & GROUP or source == NO_ADDRESS:
                counters.drops[Drop.BAD_SOURCE] += 1
                return 0
            if not port.forged:
                counters.drops[Drop.FORGED] += 1
                return 0
        if kind in SPECIAL_TYPES and (reason := refusal(frame, kind, group.vlan)) is not None:
            counters.drops[reason] += 1
            return 0
        shaper = port.shaper
        if shaper is not None and (port.held or not shaper.admit(length, now_ns)):
            if len(port.held) >= HELD_MAX:
                counters.drops[Drop.SHAPED] += 1
                return 0
            port.held.append(frame)
            self._held[port] = None
            return 1
        segment = self._segments.get(group.vlan)
        if segment is not None and not segment.watchers and not self._trunks.members and not frame[0] & GROUP:
            owners = segment.unicast.get(frame[:SOURCE])  # most frames are for a port of an ordinary VLAN
            if owners is not None:
                counters.frames_out += 1
                counters.bytes_out += length
                reached = 0
                for other in owners:
                    if other.listens and other is not port:
                        reached += hand_over(other, frame, None, now_ns)
                return reached
        return self._forward(port, frame, now_ns)

    def _forward(self, port: Port, frame: bytes, now_ns: int) -> int:
        """A frame that may be sent, to whom it is for; how many took it."""
        group = port.group
        assert group is not None
        port.counters.frames_out += 1
        port.counters.bytes_out += len(frame)
        vlan, plain, whole = group.vlan, frame, None
        if vlan == VLAN_TRUNK:
            vlan, plain, whole = split(frame)
        found, reached = self._spread(vlan, plain, whole, port, None, now_ns)
        if found and not frame[0] & GROUP:
            return reached
        for uplink in group.team.choose(port.uplink, plain):
            reached += uplink.emit(tagged(plain, vlan) if whole is None else whole, now_ns)
        if not group.team.in_use and self.uplinks:
            port.counters.drops[Drop.NO_UPLINK] += 1
        return reached

    # frames from an uplink

    def receive(self, uplink: Uplink, frame: bytes, now_ns: int) -> None:
        """What an uplink's device hands over."""
        counters = uplink.counters
        for capture in uplink.captures:
            capture.frame(frame, now_ns, outbound=False)
        length, kind = len(frame), frame[TYPE:TAG_CONTROL]
        if length < HEADER_BYTES:
            counters.drops[Drop.RUNT] += 1
            return
        if length > self._length_max and (length > self._length_max + TAG_BYTES or kind != TPID):
            counters.drops[Drop.GIANT] += 1
            return
        if frame[SOURCE] & GROUP:
            counters.drops[Drop.BAD_SOURCE] += 1
            return
        if kind in TAG_TYPES and not is_fit(frame, VLAN_TRUNK):
            counters.drops[Drop.VLAN] += 1
            return
        vlan, plain, whole = split(frame)
        if plain[TYPE:TAG_CONTROL] == TYPE_BEACON and self._beacons.heard(uplink, vlan, plain, now_ns):
            return
        counters.frames_in += 1
        counters.bytes_in += length
        if frame[0] & GROUP and self._is_ours(vlan, frame[SOURCE:TYPE]):
            counters.drops[Drop.REFLECTED] += 1
        elif not self._spread(vlan, plain, whole, None, uplink, now_ns)[0]:
            counters.drops[Drop.UNKNOWN] += 1

    def _is_ours(self, vlan: int, address: bytes) -> bool:
        segment = self._segments.get(vlan)
        return (segment is not None and address in segment.unicast) or address in self._trunks.unicast

    # to ports

    def _spread(
        self, vlan: int, plain: bytes, whole: bytes | None, origin: Port | None, uplink: Uplink | None, now_ns: int
    ) -> tuple[bool, int]:
        """To the ports of a VLAN, and trunks; whether it was for one of them, and how many took it. `whole` is the
        frame with its tag, if it came with one; `uplink` is where it came from, if not from `origin`."""
        found, reached = False, 0
        if (segment := self._segments.get(vlan)) is not None:
            found, reached = self._into(segment, plain, plain, origin, uplink, now_ns)
        if self._trunks.members:
            shown = tagged(plain, vlan) if whole is None else whole
            more, took = self._into(self._trunks, plain, shown, origin, uplink, now_ns)
            found, reached = found or more, reached + took
        return found, reached

    @staticmethod
    def _into(
        segment: Segment, plain: bytes, shown: bytes, origin: Port | None, uplink: Uplink | None, now_ns: int
    ) -> tuple[bool, int]:
        """`shown` is the frame as these ports are to see it."""
        destination = plain[:SOURCE]
        reached = 0
        if destination[0] & GROUP:
            for port in segment.audience(destination):
                if port is not origin:
                    reached += hand_over(port, shown, uplink, now_ns)
            return bool(segment.members), reached
        owners = segment.unicast.get(destination)
        if owners is not None:
            for port in owners:
                if port.listens and port is not origin and port not in segment.watchers:
                    reached += hand_over(port, shown, None, now_ns)
        for port in segment.watchers:
            if port is not origin:
                is_own = owners is not None and port in owners
                reached += hand_over(port, shown, None if is_own else uplink, now_ns)
        return owners is not None, reached


def probed(group: Group) -> int:
    """Where beacons for this port group go; those for a trunk have no tag."""
    return VLAN_NONE if group.vlan == VLAN_TRUNK else group.vlan


def hand_over(port: Port, frame: bytes, uplink: Uplink | None, now_ns: int) -> bool:
    """Whether it took it. `uplink`: where a frame for many came from, of which others may bring copies."""
    counters = port.counters
    if uplink is not None and port.uplink is not None and port.uplink is not uplink:
        assert port.group is not None
        if port.group.policy.reverse:
            counters.drops[Drop.WRONG_UPLINK] += 1
            return False
    for capture in port.captures:
        capture.frame(frame, now_ns, outbound=False)
    if port.endpoint.deliver(frame):
        counters.frames_in += 1
        counters.bytes_in += len(frame)
        return True
    counters.drops[Drop.FULL] += 1
    return False


def refusal(frame: bytes, kind: bytes, vlan: int) -> Drop | None:
    """Why a port of this VLAN may not send a frame of one of the special types."""
    if kind == TYPE_BEACON or frame[TAGGED_TYPE : TAGGED_TYPE + 2] == TYPE_BEACON:
        return Drop.BEACON
    return None if is_fit(frame, vlan) else Drop.VLAN


def is_fit(frame: bytes, vlan: int) -> bool:
    """May a frame with a tag be sent into this port group? A priority tag must not hide another tag."""
    if vlan != VLAN_TRUNK or frame[TYPE:TAG_CONTROL] != TPID or len(frame) < HEADER_BYTES + TAG_BYTES:
        return False
    wanted = tag_vlan(frame)
    return wanted != VLAN_TRUNK and (wanted != VLAN_NONE or frame[TAGGED_TYPE : TAGGED_TYPE + 2] not in TAG_TYPES)


def split(frame: bytes) -> tuple[int, bytes, bytes | None]:
    """The VLAN of a frame that is fit for a trunk; the frame without its tag; and with it, if it had one."""
    if frame[TYPE:TAG_CONTROL] != TPID:
        return VLAN_NONE, frame, None
    vlan = tag_vlan(frame)
    plain = untagged(frame)
    return vlan, plain, frame if vlan else None
