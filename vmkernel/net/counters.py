"""What ports and uplinks have carried, and why they did not carry the rest."""

from __future__ import annotations

from enum import IntEnum


class Drop(IntEnum):
    """Why a frame went no further."""

    RUNT = 0  # shorter than a header
    GIANT = 1  # longer than the switch's MTU
    BAD_SOURCE = 2  # a group's address, or none, as its sender
    FORGED = 3  # an address that is not the adapter's, where that is forbidden
    VLAN = 4  # a tag where none may be, or one that says nothing
    BEACON = 5  # a probe, which only switches send
    SHAPED = 6  # above the port's bandwidth, and its queue was full
    FULL = 7  # the receiver did not keep up
    NO_UPLINK = 8  # for the world outside, with no uplink that works
    UNKNOWN = 9  # from an uplink, for an address that no port has
    REFLECTED = 10  # from an uplink, sent by one of our own ports
    WRONG_UPLINK = 11  # from an uplink that the port does not use: a copy of one that came by the other


class Counters:
    """`out`: from the adapter into the switch, or from the switch into an uplink's device. `drops` by Drop."""

    __slots__ = ("bytes_in", "bytes_out", "drops", "frames_in", "frames_out")

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self.drops = [0] * len(Drop)

    def add(self, other: Counters) -> None:
        self.frames_in += other.frames_in
        self.frames_out += other.frames_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.drops = [one + two for one, two in zip(self.drops, other.drops, strict=True)]

    def as_json(self) -> dict[str, object]:
        drops = {Drop(reason).name.lower(): count for reason, count in enumerate(self.drops) if count}
        return {
            "frames_in": self.frames_in, "bytes_in": self.bytes_in, "frames_out": self.frames_out,
            "bytes_out": self.bytes_out, "dropped": sum(self.drops), "drops": drops,
        }  # fmt: skip
