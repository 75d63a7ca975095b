"""Suspends a machine to a .vmss file and brings it back, in this process or another.

Saved are the state file (vCPUs, interrupt page, devices), RAM and device memory, with the facts that a machine must
share to take them. The machine is at rest: no vCPU in the middle of an instruction, guest time stunned. The file is
written beside its final name and renamed when it is whole and on the disk. Pages that nobody touched, or that are zero,
are holes.
Not kept: counters, breakpoints, what the host's end of a cable has not delivered yet.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmkernel.storage.block_file import BlockFile, sync_folder
from vmkernel.storage.errors import HostTrouble, MissingLink
from vmkernel.storage.place import P, Place
from vmm.layout_spec import VcpuState
from vmm.state import check
from vmm.vcpu import Activity
from vmx.machine import Machine
from vmx.stop import StopKind, StopReason
from vmx.vmss import PAGE, Container, Group, Tag, pack, read_container

CHUNK = 1 << 20
FORMAT = 1
OURS = "Ringfence"
PRIVATE = 0o600  # all of a guest's memory is for nobody but the machine's owner
MEMORY, CPU = "memory", "cpu"
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def facts(machine: Machine) -> dict[str, Any]:
    """What a machine must have in common with the one that was saved."""
    config, attached = machine.config, machine.attachments
    return {
        "format": FORMAT,
        "memory_mib": config.memory_mib,
        "vcpus": config.vcpus,
        "cpu_features": config.cpu_features,
        "uuid": config.uuid.hex(),
        "firmware": hashlib.sha256(attached.firmware).hexdigest(),
        "video_rom": hashlib.sha256(attached.video_rom).hexdigest(),
        "drives": sorted(f"{node} {type(drive).__name__}" for node, drive in attached.nodes().items()),
        "nics": sorted(
            f"ethernet{number} {nic.kind.value} {nic.address.hex()} {hashlib.sha256(nic.rom).hexdigest()}"
            for number, nic in attached.nics.items()
        ),
        "adapters": sorted(f"scsi{number} {adapter.kind.value}" for number, adapter in attached.scsi.items()),
    }


# writing


def suspend_soon(
    machine: Machine, path: Place, failed: Callable[[RingfenceError], None], saved: Callable[[], None] = lambda: None
) -> None:
    """Suspend a running machine as soon as it is at rest, and end its run; if it cannot be saved it runs on.

    One of `failed` and `saved` is called, the machine still at rest. A RingfenceError of `saved` is a failure too.
    """

    def save() -> None:
        if machine.questions.is_open:  # and the machine stands still already
            failed(HostRefused(f"suspend: the machine waits for an answer: {machine.questions.text}"))
            return
        machine.stun()
        try:
            suspend(machine, path)
            saved()
        except RingfenceError as error:
            machine.interrupts.resume()
            failed(error)
        else:
            machine.attachments.kept = True
            machine.stop(StopReason(StopKind.SUSPENDED))

    machine.at_rest(save)


def suspend(
    machine: Machine, path: Place, progress: Progress = lambda done, total: None, more: tuple[Group, ...] = ()
) -> None:
    """Save a machine that is at rest and stunned, once its disks are; `more` goes with it.

    Raises HostRefused, or MediaError where a disk cannot be flushed, with nothing left behind.
    """
    machine.board.scsi.settle()
    if machine.questions.is_open:
        raise HostRefused(f"{path}: the machine waits for an answer: {machine.questions.text}")
    for chain in machine.attachments.chains.values():
        if chain.writable:
            chain.flush()  # a memory that knows of writes is no use without them
    state = bytes(machine.state.mapping)
    ram = memoryview(machine.memory.ram.bytes)
    sums = chunk_sums(machine)
    groups = (
        Group(OURS, (
            Tag("facts", json.dumps(facts(machine)).encode()),
            Tag("tscHz", str(machine.tsc_hz()).encode()),
            Tag("state", state),
            Tag("deviceMemory", zlib.compress(bytes(machine.memory.dev.bytes), 1)),
            Tag("deviceDirty", zlib.compress(machine.memory.dirty.tobytes(), 1)),
            Tag("memorySums", b"".join(value.to_bytes(4, "little") for value in sums)),
        )),
        *more,
        Group(CPU, tuple(control_registers(machine))),
        Group(MEMORY, (
            Tag("regionsCount", (1).to_bytes(4, "little")),
            Tag("regionPPN", (0).to_bytes(4, "little"), (0,)),
            Tag("regionPageNum", (0).to_bytes(4, "little"), (0,)),
            Tag("regionSize", (len(ram) // PAGE).to_bytes(4, "little"), (0,)),
        )),
    )  # fmt: skip
    meta = pack(groups, len(ram))
    temporary = unfinished(path)
    try:
        with BlockFile.create(temporary, PRIVATE) as file:
            file.write(0, [meta])
            file.truncate(len(meta) + len(ram) + 2)
            for offset, chunk in touched(machine):
                if any_set(chunk):
                    file.write(len(meta) + offset, [chunk])
                progress(offset + len(chunk), len(ram))
            file.sync()
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise HostRefused(f"{path}: the machine could not be suspended: {error.strerror or error}") from error
    except HostTrouble as error:
        raise HostRefused(f"{path}: the machine could not be suspended: {error.reason}") from error
    except HostRefused as error:
        raise HostRefused(f"{path}: the machine could not be suspended: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: P) -> P:
    """What the file is called while it is written."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def control_registers(machine: Machine) -> Iterator[Tag]:
    """For the programs of others that look into memory: CR3 says where a vCPU's page tables are."""
    for number, vcpu in enumerate(machine.vcpus):
        state = vcpu.state
        for register, value in ((0, state.cr0), (2, state.cr2), (3, state.cr3), (4, state.cr4)):
            yield Tag("CR", int(value).to_bytes(4, "little"), (number, register))


def touched(machine: Machine) -> Iterator[tuple[int, memoryview]]:
    """(offset, bytes) of RAM in pieces of a chunk, leaving out what the host never had to back."""
    ram = memoryview(machine.memory.ram.bytes)
    at = 0
    with contextlib.suppress(OSError):  # ENXIO: no more data
        while at < len(ram):
            start = os.lseek(machine.memory.ram.fd, at, os.SEEK_DATA) // CHUNK * CHUNK
            at = min(start + CHUNK, len(ram))
            with ram[start:at] as chunk:
                yield start, chunk


def any_set(chunk: memoryview) -> bool:
    return chunk != bytes(len(chunk))


def chunk_sums(machine: Machine) -> list[int]:
    """CRC-32 of every chunk of RAM."""
    size = machine.memory.ram.size
    sums = [zlib.crc32(bytes(min(CHUNK, size - at))) for at in range(0, size, CHUNK)]
    for offset, chunk in touched(machine):
        sums[offset // CHUNK] = zlib.crc32(chunk)
    return sums


# reading


@dataclass(slots=True)
class Saved:
    """A file that was found whole but for its memory. `close` when the machine has it, or will not."""

    where: str
    file: BlockFile
    container: Container
    facts: dict[str, Any]

    def tag(self, name: str) -> bytes:
        return self.container.value(self.where, OURS, name)

    @property
    def tsc_hz(self) -> int:
        return int(self.tag("tscHz"))

    def close(self) -> None:
        self.file.close()


def open_saved(path: Place) -> Saved:
    """Raises BadInput for a file that is damaged, or none of ours."""
    where = str(path)
    try:
        file = BlockFile.open(path, lock=False)
    except (HostRefused, MissingLink) as error:
        raise BadInput(where, "cannot open", "a suspended machine", str(error)) from error
    try:
        container = read_container(file, where)
        if OURS not in container.groups:
            raise BadInput(where, "groups", f"one called {OURS}", ", ".join(container.groups) or "none")
        try:
            said = json.loads(container.value(where, OURS, "facts"))
        except (ValueError, RecursionError) as error:
            raise BadInput(where, "facts", "JSON", str(error)) from error
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise BadInput(where, "facts", f"format {FORMAT}", "another")
        return Saved(where, file, container, said)
    except BaseException:
        file.close()
        raise


def restore(machine: Machine, saved: Saved, progress: Progress = lambda done, total: None) -> None:
    """Make a machine that was just built the saved one, stunned. Raises BadInput or LayoutMismatch.

    Nothing is changed before everything but the memory has been checked; memory is checked as it is read.
    """
    ours = facts(machine)
    for name, value in ours.items():
        if saved.facts.get(name) != value:
            raise BadInput(saved.where, name, f"{value} as this machine has", f"{saved.facts.get(name)}")
    state = saved.tag("state")
    check(saved.where, state, len(state), machine.state.sections)
    check_vcpus(saved.where, state, machine)
    memory = machine.memory
    device_memory = inflate(saved, "deviceMemory", memory.dev.size)
    dirty = inflate(saved, "deviceDirty", len(memory.dirty))
    sums = saved.tag("memorySums")
    if saved.container.large_bytes != memory.ram.size or len(sums) != 4 * -(-memory.ram.size // CHUNK):
        raise BadInput(saved.where, "memory", f"{memory.ram.size} bytes", f"{saved.container.large_bytes}")
    read_memory(machine, saved, sums, progress)
    for name, kind in machine.state.sections.items():
        offset = machine.state.offsets[name]
        ctypes.memmove(machine.state.address(name), state[offset : offset + ctypes.sizeof(kind)], ctypes.sizeof(kind))
    machine.restored()
    memory.dev.bytes[:] = device_memory  # after the map has been drawn, which clears what it gives to firmware's shadow
    memory.dirty[:] = list(dirty)


def check_vcpus(where: str, state: bytes, machine: Machine) -> None:
    """What a vCPU does is one of few things. Raises BadInput."""
    for vcpu in machine.vcpus:
        name = f"vcpu{vcpu.number}"
        found = VcpuState.from_buffer_copy(state, machine.state.offsets[name]).activity
        if found not in set(Activity):
            known = ", ".join(str(int(kind)) for kind in Activity)
            raise BadInput(where, f"activity of {name}", f"one of {known}", f"{found}")


def inflate(saved: Saved, name: str, size: int) -> bytes:
    """A compressed tag that must be so many bytes."""
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(saved.tag(name), size + 1)
    except zlib.error as error:
        raise BadInput(saved.where, name, "compressed bytes", str(error)) from error
    if len(data) != size:
        raise BadInput(saved.where, name, f"{size} bytes", f"{len(data)}{'' if decoder.eof else ' or more'}")
    return data


def read_memory(machine: Machine, saved: Saved, sums: bytes, progress: Progress) -> None:
    """RAM from the file, chunk by chunk, each against its sum."""
    size, base = machine.memory.ram.size, saved.container.large_offset
    with memoryview(machine.memory.ram.bytes) as ram:
        for at in range(0, size, CHUNK):
            with ram[at : min(at + CHUNK, size)] as chunk:
                expected = int.from_bytes(sums[at // CHUNK * 4 :][:4], "little")
                end = base + at + len(chunk)
                if saved.file.next_data(base + at, end) == end:
                    found = zlib.crc32(bytes(len(chunk)))
                else:
                    try:
                        saved.file.read(base + at, [chunk])
                    except HostTrouble as error:
                        raise BadInput(saved.where, f"memory at {at:#x}", "memory", error.reason) from error
                    found = zlib.crc32(chunk)
                if found != expected:
                    expected_text, found_text = f"checksum {expected:#010x}", f"{found:#010x}"
                    raise BadInput(saved.where, f"memory at {at:#x}", expected_text, found_text)
                progress(at + len(chunk), size)
