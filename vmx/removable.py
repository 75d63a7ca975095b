"""Devices that can be connected and disconnected while the machine runs: serial cables, discs and diskettes.

Named as in a .vmx file. Everything is called under the machine's lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from hw.backdoor import RemovableDevice
from ringfence.errors import RingfenceError
from vmx.attachments import Attachments
from vmx.disc_tray import DiscTray
from vmx.floppy_slot import FloppySlot
from vmx.serial import SerialCable

Backend = SerialCable | DiscTray | FloppySlot


class RemovableBackends:
    """Those of one machine, in a lasting order: a hw.backdoor.RemovableDevices."""

    def __init__(self, attached: Attachments) -> None:
        self.by_name: dict[str, Backend] = {
            f"serial{index}": end for index, end in enumerate(attached.serials) if isinstance(end, SerialCable)
        }
        if attached.floppy is not None:
            self.by_name[attached.floppy.name] = attached.floppy
        self.by_name |= {tray.name: tray for tray in attached.all_trays()}

    # for the guest's tools

    def devices(self) -> Sequence[RemovableDevice]:
        return [
            RemovableDevice(name, uid, backend.connected) for uid, (name, backend) in enumerate(self.by_name.items())
        ]

    def connect(self, uid: int, on: bool) -> bool:
        """What the host or the guest's lock on a tray does not allow is not done."""
        if uid >= len(self.by_name):
            return False
        backend = list(self.by_name.values())[uid]
        try:
            if not on:
                unplug(backend)
            elif not backend.connected:
                plug(backend)
        except RingfenceError:
            return False
        return True


def plug(backend: Backend) -> None:
    """To what it is configured for. Raises BadInput, BadOption and HostRefused."""
    if isinstance(backend, SerialCable):
        backend.plug()
    else:
        backend.connect()


def unplug(backend: Backend) -> None:
    """Raises DriveLocked."""
    if isinstance(backend, SerialCable):
        backend.unplug()
    else:
        backend.disconnect()
