"""Tables as files and a script that puts them into memory: written here, and carried out by firmware or by `link`.

A table points at others by address, which only who places them knows. So a pointer holds an offset into a file, and the
script says to which file's address it is to be added, and which bytes sum up to zero afterwards.
Source: SeaBIOS, src/fw/romfile_loader.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hw.firmware.linker_spec import (
    COMMAND_BYTES,
    AddChecksum,
    AddPointer,
    Allocate,
    Command,
    CommandKind,
    Operands,
    Zone,
)
from ringfence.errors import BadInput

Allocator = Callable[[int, int], int]


@dataclass(slots=True)
class Linkable:
    """Files that refer to one another, and the commands that join them, in order."""

    files: dict[str, bytearray] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    def add_file(self, name: str, alignment: int, zone: Zone) -> None:
        """An empty file; its commands come before any that need its address."""
        self.files[name] = bytearray()
        operands = Operands(allocate=Allocate(name.encode(), alignment, zone))
        self.commands.append(Command(CommandKind.ALLOCATE, operands))

    def append(self, name: str, data: bytes, alignment: int = 1) -> int:
        """More of a file; the offset at which it begins."""
        file = self.files[name]
        file += bytes(-len(file) % alignment)
        offset = len(file)
        file += data
        return offset

    def point(self, target: str, offset: int, source: str, source_offset: int = 0, size: int = 4) -> None:
        """The number at `offset` of `target` becomes the address of `source_offset` in `source`."""
        self.files[target][offset : offset + size] = source_offset.to_bytes(size, "little")
        operands = Operands(add_pointer=AddPointer(target.encode(), source.encode(), offset, size))
        self.commands.append(Command(CommandKind.ADD_POINTER, operands))

    def checksum(self, name: str, offset: int, start: int, length: int) -> None:
        """The byte at `offset` makes those from `start` on sum up to 0. After all pointers into them."""
        self.files[name][offset] = 0
        operands = Operands(add_checksum=AddChecksum(name.encode(), offset, start, length))
        self.commands.append(Command(CommandKind.ADD_CHECKSUM, operands))

    @property
    def script(self) -> bytes:
        return b"".join(bytes(command) for command in self.commands)


@dataclass(slots=True)
class Placed:
    """A file and the guest physical address at which it is to lie."""

    address: int
    data: bytearray


def link(script: bytes, files: Mapping[str, bytes], zones: Mapping[Zone, Allocator]) -> dict[str, Placed]:
    """Carry out a script. Raises BadInput for one that refers to what there is not."""
    if len(script) % COMMAND_BYTES:
        raise BadInput("table loader", "size", f"a multiple of {COMMAND_BYTES}", f"{len(script)}")
    placed: dict[str, Placed] = {}
    for at in range(0, len(script), COMMAND_BYTES):
        command = Command.from_buffer_copy(script, at)
        where = f"table loader: command {at // COMMAND_BYTES}"
        if command.kind == CommandKind.ALLOCATE:
            _allocate(where, command.operands.allocate, files, zones, placed)
        elif command.kind == CommandKind.ADD_POINTER:
            _add_pointer(where, command.operands.add_pointer, placed)
        elif command.kind == CommandKind.ADD_CHECKSUM:
            _add_checksum(where, command.operands.add_checksum, placed)
        else:
            raise BadInput(where, "kind", "1 to 3", f"{command.kind}")
    return placed


def _allocate(
    where: str, request: Allocate, files: Mapping[str, bytes], zones: Mapping[Zone, Allocator],
    placed: dict[str, Placed],
) -> None:  # fmt: skip
    name = request.file.decode("ascii", "replace")
    if name not in files or name in placed:
        raise BadInput(where, "file", "one that is there and not yet placed", name)
    if request.zone not in set(Zone) or request.alignment.bit_count() != 1:
        raise BadInput(where, "place", "a known zone and a power of two", f"{request.zone}, {request.alignment}")
    data = bytearray(files[name])
    placed[name] = Placed(zones[Zone(request.zone)](len(data), request.alignment), data)


def _add_pointer(where: str, request: AddPointer, placed: Mapping[str, Placed]) -> None:
    target = _placed(where, request.target, placed).data
    address = _placed(where, request.source, placed).address
    at, size = request.offset, request.size
    if size not in {1, 2, 4, 8} or at + size > len(target):
        raise BadInput(where, "pointer", f"1, 2, 4 or 8 bytes within {len(target)}", f"{size} at {at}")
    value = int.from_bytes(target[at : at + size], "little") + address
    target[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _add_checksum(where: str, request: AddChecksum, placed: Mapping[str, Placed]) -> None:
    data = _placed(where, request.file, placed).data
    at, first, end = request.offset, request.start, request.start + request.length
    if at >= len(data) or end > len(data):
        raise BadInput(where, "checksum", f"a range within {len(data)} bytes", f"{at}, {first} to {end}")
    data[at] = (data[at] - sum(data[first:end])) & 0xFF


def _placed(where: str, name: bytes, placed: Mapping[str, Placed]) -> Placed:
    if (found := placed.get(name.decode("ascii", "replace"))) is None:
        raise BadInput(where, "file", "one that is placed", name.decode("ascii", "replace"))
    return found
