"""An uplink's device, made of the place that it leads to."""

from __future__ import annotations

from vmkernel.net.uplinks.datagrams import DatagramDevice
from vmkernel.net.uplinks.interface import InterfaceDevice
from vmkernel.net.uplinks.nat import NatDevice
from vmkernel.net.uplinks.place import Interface, Nat, Place, Tap
from vmkernel.net.uplinks.tap import TapDevice
from vmkernel.net.uplinks.wiring import UplinkDevice


def open_device(place: Place, address: bytes) -> UplinkDevice:
    """`address` is the uplink's own. Raises HostRefused."""
    match place:
        case Tap():
            return TapDevice(place.name)
        case Interface():
            return InterfaceDevice(place.name)
        case Nat():
            return NatDevice(place)
        case _:
            return DatagramDevice(place, address)
