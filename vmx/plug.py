"""From a machine's configuration to what is plugged into it: files, sockets and drives of the host are opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hw.wiring import ByteSink
from ringfence.errors import BadInput, BadOption, HostRefused
from vmkernel.storage.blocks import DiskBlocks
from vmkernel.storage.chain import Chain
from vmkernel.storage.formats import looks_like_vmdk
from vmkernel.storage.place import elsewhere
from vmx import roms
from vmx.attachments import Attachments, Disc, Disk, ScsiAdapter
from vmx.disc_tray import DiscTray, first_host_drive
from vmx.disk_image import Flusher, Forgetting, open_machine_disk
from vmx.ending import signals_wait
from vmx.floppy_slot import FloppySlot
from vmx.machine_config import DISCARDING, DriveKind, DriveSpec, MachineConfig, PortKind, PortSpec
from vmx.media import CYLINDER_BYTES, open_disk
from vmx.network_adapters import PluggedNic
from vmx.network_config import NicKind
from vmx.network_ports import NetworkPorts
from vmx.network_rom import network_rom
from vmx.parallel_backend import open_parallel
from vmx.registry import Registry
from vmx.scsi_disk import WRITE_BACK, WRITE_THROUGH, ChainBacking, ScsiDisk
from vmx.serial import SerialCable

Say = Callable[[str], None]


def plug_in(
    config: MachineConfig, say: Say, debug_sink: ByteSink, *, firmware: bool, resumes: bool = False
) -> Attachments:
    """Open everything; `firmware`: the BIOS too; `resumes`: a suspended machine goes on, and with it its printed files.

    Raises BadInput, BadOption and HostRefused, with nothing left open.
    """
    attached = Attachments(debug_sink=debug_sink, video_rom=roms.video_rom())
    if firmware:
        with wanted_by(config.firmware_origin if config.firmware else ""):
            attached.firmware = roms.system_firmware(config.firmware)
    try:
        for index, port in enumerate(config.serials):
            if port is not None:
                with signals_wait():  # else one that falls behind bind() leaves a socket that nobody knows
                    attached.plug_serial(index, cable(port, say, append=resumes))
        if config.parallel is not None and config.parallel.kind is not PortKind.NONE:
            port = config.parallel
            attached.printer = open_parallel(port.text(), say, origin=port.origin or "--parallel", append=resumes)
        if config.floppy is not None:
            spec = config.floppy
            with wanted_by(spec.origin):
                attached.floppy = FloppySlot("floppy0", spec.path, say, connected=spec.connected)
        plug_drives(config, attached, say, resumes=resumes)
        plug_nics(config, attached)
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


def plug_drives(config: MachineConfig, attached: Attachments, say: Say, *, resumes: bool) -> None:
    """Hard disks with their images locked, CD-ROM drives with what is to be in them."""
    opening = DiskOpening(config, attached, resumes)
    for (channel, unit), spec in config.ide.items():
        node = f"ide{channel}:{unit}"
        with wanted_by(spec.origin):
            is_disk = spec.kind is DriveKind.DISK
            attached.drives[channel, unit] = opening.ide_disk(node, spec) if is_disk else disc(node, spec, say)
    for number, adapter in config.scsi.items():
        attached.scsi[number] = plugged = ScsiAdapter(adapter.kind)
        for place, spec in adapter.drives.items():
            node = f"scsi{number}:{place}"
            with wanted_by(spec.origin):
                is_disk = spec.kind is DriveKind.DISK
                plugged.units[place] = opening.scsi_disk(node, spec) if is_disk else disc(node, spec, say)
    if attached.chains:
        attached.flusher = Flusher(attached.chains)
        attached.owned.append(attached.flusher)


def plug_nics(config: MachineConfig, attached: Attachments) -> None:
    """Network adapters, each with a port of the group that it names; without one it leads nowhere."""
    rom = network_rom() if config.nics else b""
    network = None
    if any(spec.network for spec in config.nics.values()):
        network = NetworkPorts(Registry.of_user().directory)
        attached.owned.append(network)
    for number, spec in config.nics.items():
        port = None
        if spec.network and network is not None:
            with wanted_by(spec.origin):
                port = network.open(spec.network, spec.address, f"{config.name or 'machine'} ethernet{number}")
        attached.nics[number] = PluggedNic(
            spec.kind, spec.address, port, connected=spec.connected, rom=rom if spec.kind is NicKind.VLANCE else b""
        )


def disc(node: str, spec: DriveSpec, say: Say) -> Disc:
    path = first_host_drive() if spec.host_device and spec.path is None and spec.connected else spec.path
    return Disc(DiscTray(node, path, say, connected=spec.connected))


class DiskOpening:
    """Opens a machine's hard disks; what is open belongs to the attachments."""

    def __init__(self, config: MachineConfig, attached: Attachments, resumes: bool) -> None:
        self._folder, self._attached, self._resumes = config.folder, attached, resumes

    def ide_disk(self, node: str, spec: DriveSpec) -> Disk:
        assert spec.path is not None
        if not looks_like_vmdk(spec.path.name) and spec.mode not in DISCARDING and elsewhere(spec.path) is None:
            raw = open_disk(spec.path)
            self._attached.owned.append(raw)
            return Disk(raw)
        chain = self._chain(node, spec)
        if chain.size_bytes < CYLINDER_BYTES:
            wanted = f"at least one cylinder, {CYLINDER_BYTES} bytes"
            raise BadInput(str(spec.path), "size", wanted, f"{chain.size_bytes}")
        return Disk(DiskBlocks(chain, node))

    def scsi_disk(self, node: str, spec: DriveSpec) -> ScsiDisk:
        profile = WRITE_THROUGH if spec.write_through else WRITE_BACK
        return ScsiDisk(ChainBacking(self._chain(node, spec), node), profile)

    def _chain(self, node: str, spec: DriveSpec) -> Chain:
        """`owned` is closed from its end: the chain before its redo log is forgotten."""
        attached = self._attached
        if spec.mode in DISCARDING:
            attached.owned.append(Forgetting(attached, spec, node, self._folder))
        chain = open_machine_disk(spec, node, self._folder, resumes=self._resumes)
        attached.chains[node] = chain
        attached.owned.append(chain)
        return chain
