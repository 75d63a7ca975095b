"""From a machine's configuration to what is plugged into it: files, sockets and drives of the host are opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hw.wiring import ByteSink
from ringfence.errors import BadInput, BadOption, HostRefused
from vmx import roms
from vmx.attachments import Attachments, Disc, Disk
from vmx.disc_tray import DiscTray, first_host_drive
from vmx.floppy_slot import FloppySlot
from vmx.machine_config import DriveKind, DriveSpec, MachineConfig, PortKind, PortSpec
from vmx.media import open_disk
from vmx.parallel_backend import open_parallel
from vmx.serial import SerialCable

Say = Callable[[str], None]


def plug_in(
    config: MachineConfig, say: Say, debug_sink: ByteSink, *, firmware: bool, resumes: bool = False
) -> Attachments:
    """Open everything; `firmware`: the BIOS too; `resumes`: files that were printed to go on.

    Raises BadInput, BadOption and HostRefused, with nothing left open.
    """
    attached = Attachments(debug_sink=debug_sink, video_rom=roms.video_rom())
    if firmware:
        with wanted_by(config.firmware_origin if config.firmware else ""):
            attached.firmware = roms.system_firmware(config.firmware)
    try:
        for index, port in enumerate(config.serials):
            if port is not None:
                attached.plug_serial(index, cable(port, say, append=resumes))
        if config.parallel is not None and config.parallel.kind is not PortKind.NONE:
            port = config.parallel
            attached.printer = open_parallel(port.text(), say, origin=port.origin or "--parallel", append=resumes)
        if config.floppy is not None:
            spec = config.floppy
            with wanted_by(spec.origin):
                attached.floppy = FloppySlot("floppy0", spec.path, say, connected=spec.connected)
        for place, spec in config.ide.items():
            with wanted_by(spec.origin):
                attached.drives[place] = drive(place, spec, attached, say)
    except BaseException:
        attached.close()
        raise
    return attached


@contextmanager
def wanted_by(origin: str) -> Iterator[None]:
    """What cannot be plugged in is said with the option, or the line of a file, that asks for it."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{origin}: {error.where}" if origin else error.where, error.what, error.expected, error.found
                       ) from error  # fmt: skip
    except (BadOption, HostRefused) as error:
        kind = BadOption if isinstance(error, BadOption) else HostRefused
        raise kind(f"{origin}: {error}" if origin else str(error)) from error


def cable(port: PortSpec, say: Say, *, append: bool) -> SerialCable:
    return SerialCable(
        port.text(), say, origin=port.origin or "--serial", connected=port.start_connected, append=append
    )


def drive(place: tuple[int, int], spec: DriveSpec, attached: Attachments, say: Say) -> Disk | Disc:
    """A disk with its image locked; a CD-ROM drive with what is to be in it."""
    if spec.kind is DriveKind.DISK:
        assert spec.path is not None
        disk = open_disk(spec.path)
        attached.owned.append(disk)
        return Disk(disk)
    path = first_host_drive() if spec.host_device and spec.path is None and spec.connected else spec.path
    return Disc(DiscTray(f"ide{place[0]}:{place[1]}", path, say, connected=spec.connected))
