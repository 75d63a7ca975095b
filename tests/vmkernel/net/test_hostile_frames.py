"""Random frames from everywhere: none crosses a VLAN or a security policy, judged from the frame at each arrival."""

from __future__ import annotations

import random

import pytest

from tests.vmkernel.net.lab import ALL_HASHES, BROADCAST, Lab, address
from vmkernel.net.port import Port, Wanted

VLANS = (0, 0, 5, 6, 4094, 4095)
MULTICAST = bytes.fromhex("01005e000001")
TPIDS = (0x8100, 0x8100, 0x8100, 0x88A8, 0x9100)
ORIGIN = slice(-2, None)  # the last two bytes say who sent it


class Judge:
    """A receiver: an end of a port, or an uplink (`station` None)."""

    def __init__(self, arena: Arena, vlan: int, number: int) -> None:
        self.arena, self.vlan, self.number = arena, vlan, number
        self.address = address(number)
        self.wanted = Wanted(self.address)
        self.strict = number % 2 == 1
        self.count = 0
        self.port: Port

    def deliver(self, frame: bytes) -> bool:
        self.count += 1
        origin, sent, vlan = self.arena.now
        assert origin is not self, "a frame came back"
        assert self.vlan in (vlan, 4095), f"VLAN {vlan} in a port of {self.vlan}: {sent[:24].hex(' ')}"
        assert frame == (sent if self.vlan == 4095 and outer_vlan(sent) else stripped(sent, vlan, self.vlan))
        if not (self.wanted.promiscuous and not self.strict):
            assert frame[:6] in (self.wanted.address, BROADCAST) or frame[0] & 1
        if self.strict:
            assert self.wanted.address == self.address, "another address, where that is forbidden"
        return True

    def switched(self, on: bool) -> None:
        raise AssertionError("no group goes here")


def outer_vlan(frame: bytes) -> int:
    return int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == b"\x81\x00" else 0


def stripped(frame: bytes, vlan: int, seen_by: int) -> bytes:
    """As a port of this VLAN is to see it."""
    plain = frame[:12] + frame[16:] if frame[12:14] == b"\x81\x00" else frame
    return plain if seen_by != 4095 or not vlan else plain[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + plain[12:]


class Arena:
    """Groups of every kind of VLAN, lax ones and strict ones, with two ports each; two uplinks."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lab = Lab(uplinks=2)
        self.now: tuple[object, bytes, int] = (self, b"", 0)
        self.judges: list[Judge] = []
        self.left = 0
        for index, vlan in enumerate(VLANS):
            for strict in (False, True):
                lax = not strict
                name = self.lab.group(f"{index} {strict}", vlan, promiscuous=lax, mac_changes=lax, forged_transmits=lax)
                self.plug(name, vlan, 2 * index + strict)
                self.plug(name, vlan, 2 * index + strict + 100)
        for uplink in self.lab.network.uplinks.values():
            uplink.send = self.emitted

    def plug(self, group: str, vlan: int, number: int) -> None:
        judge = Judge(self, vlan, number)
        judge.port = self.lab.network.open(group, judge.address, judge, str(number), self.lab.now)
        self.judges.append(judge)
        self.want(judge)

    def want(self, judge: Judge) -> None:
        """Any filter: often its own, sometimes another's address."""
        pick = self.random
        own = judge.address if pick.random() < 0.8 else address(pick.randrange(112))
        judge.wanted = Wanted(own, True, True, pick.random() < 0.8, pick.random() < 0.2, pick.choice((0, ALL_HASHES)))
        self.lab.network.switches["vSwitch0"].want(judge.port, judge.wanted, self.lab.now)

    def emitted(self, frame: bytes) -> bool:
        """What leaves by an uplink was sent by a port, with the tag of its VLAN."""
        origin, _, vlan = self.now
        if origin is self:
            assert frame[12:14] == b"\x80\x35" or frame[16:18] == b"\x80\x35"  # an announcement
            return True
        assert isinstance(origin, Judge), "from an uplink to an uplink"
        assert outer_vlan(frame) == vlan, f"VLAN {vlan} left as {outer_vlan(frame)}"
        if origin.strict:
            assert frame[6:12] == origin.wanted.address, "a forged address left"
        self.left += 1
        return True

    def frame(self) -> bytes:
        pick = self.random
        any_address = (BROADCAST, MULTICAST, bytes(6), address(pick.randrange(120)), address(pick.randrange(12)))
        head = pick.choice(any_address) + pick.choice((*any_address, address(pick.randrange(12))))
        for _ in range(pick.choice((0, 0, 0, 1, 1, 2, 3))):
            vid = pick.choice((0, 5, 6, 4094, 4095, 7))
            head += pick.choice(TPIDS).to_bytes(2, "big") + (vid | pick.randrange(16) << 12).to_bytes(2, "big")
        length = pick.choice((46, 46, 46, 46, 2, 1500, 1501, 1505, 1600))
        whole = head + pick.choice((b"\x08\x00", b"\x88\xb5", b"\x89\x22")) + bytes(length)
        return whole[: pick.randrange(20)] if pick.random() < 0.05 else whole

    def step(self) -> None:
        pick, switch = self.random, self.lab.network.switches["vSwitch0"]
        frame = self.frame()
        if pick.random() < 0.01:
            self.now = (self, b"", 0)
            self.want(pick.choice(self.judges))
        if pick.random() < 0.25:
            self.now = ("uplink", frame, outer_vlan(frame))
            self.lab.arrive(frame, pick.choice(("vmnic0", "vmnic1")))
            return
        origin = pick.choice(self.judges)
        if pick.random() < 0.5 and len(frame) >= 14:
            frame = frame[:6] + origin.wanted.address + frame[12:]
        self.now = (origin, frame, outer_vlan(frame) if origin.vlan == 4095 else origin.vlan)
        switch.transmit(origin.port, frame, self.lab.now)


def run(seed: int, count: int) -> None:
    arena = Arena(seed)
    for _ in range(count):
        arena.step()
    assert all(judge.count > count // 2000 for judge in arena.judges), [judge.count for judge in arena.judges]
    assert arena.left > count // 50


def test_a_hundred_thousand_random_frames_cross_nothing():
    run(seed=7, count=100_000)


@pytest.mark.long
def test_ten_million_random_frames_cross_nothing():
    for seed in range(20):
        run(seed, 500_000)
