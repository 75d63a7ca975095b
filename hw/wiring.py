"""What the devices need from their neighbours, as protocols; `vmx` plugs the implementations in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class IrqLine(Protocol):
    """An interrupt input. A level, not an edge: setting it to what it is changes nothing."""

    def set_level(self, level: bool) -> None: ...


class PortDevice(Protocol):
    """Answers a claimed range of I/O ports. `offset` counts from the claim's first port; `width` is 1, 2 or 4 bytes."""

    def port_read(self, offset: int, width: int) -> int: ...

    def port_write(self, offset: int, width: int, value: int) -> None: ...


class BurstDevice(Protocol):
    """Answers a string instruction's accesses to one port at once. It may decline, and is then asked one by one."""

    def read_units(self, offset: int, width: int, count: int) -> bytes | None:
        """`count` reads of `width` bytes, all of them or none."""

    def write_units(self, offset: int, width: int, units: bytes) -> bool:
        """Writes of `width` bytes each; False: none was taken."""


class MmioDevice(Protocol):
    """Answers a range of guest physical memory. `offset` counts from its first byte; `width` is a power of two."""

    def mmio_read(self, offset: int, width: int) -> int: ...

    def mmio_write(self, offset: int, width: int, value: int) -> None: ...


class GuestMemory(Protocol):
    """What a bus master reaches."""

    def dma(self, gpa: int, length: int, write: bool) -> AbstractContextManager[list[memoryview]]:
        """`length` bytes at `gpa` themselves, in order; `write`: the device stores into them.

        Raises a RingfenceError, with nothing transferred, where no memory answers.
        """


class Device(Protocol):
    """Anything with state: `reset` is RESET#, `sync` drives the outputs from the state (after a resume, too)."""

    def reset(self) -> None: ...

    def sync(self) -> None: ...


class BytePort(Protocol):
    """The far end of a serial cable."""

    def transmit(self, byte: int) -> None:
        """A character left the UART."""

    def ready(self) -> None:
        """The UART can take another character."""


class ByteSink(Protocol):
    """Something that takes one byte at a time: a log, standard error."""

    def __call__(self, byte: int) -> None: ...


class Printer(ByteSink, Protocol):
    """The far end of a parallel cable."""

    def is_busy(self) -> bool:
        """Should a guest wait before it sends more?"""


class WallClock(Protocol):
    """Time of day, as the host's administrator sees it."""

    def now_ns(self) -> int:
        """UTC nanoseconds since 1970."""

    def zone_minutes(self) -> int:
        """Minutes to add to UTC for local time."""


class PowerSwitch(Protocol):
    """Whoever can end the machine's run."""

    def power_off(self) -> None: ...

    def exit_with(self, status: int) -> None:
        """The guest has ended its program with this status (0-255)."""


class Words(Protocol):
    """32-bit words by index."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class CpuRegisters(Protocol):
    """The calling vCPU's general registers, in the order EAX ECX EDX EBX ESP EBP ESI EDI, and its CPL."""

    @property
    def gpr(self) -> Words: ...

    @property
    def cpl(self) -> int: ...


class ResetSwitch(Protocol):
    """Whoever can start the machine anew; it does so once the access that asks for it is over."""

    def reset_machine(self) -> None:
        """RESET# to everything."""

    def reset_processor(self) -> None:
        """INIT# to the processors; memory and devices stay as they are."""


class AddressLine20(Protocol):
    """One control of address line 20."""

    def set_a20(self, on: bool) -> None: ...


class BlockDevice(Protocol):
    """A disk's or disc's contents, as numbered blocks. Every method raises MediaError when the backend fails."""

    @property
    def block_size(self) -> int:
        """Bytes: 512 or 2048."""

    @property
    def blocks(self) -> int: ...

    def read(self, block: int, views: list[memoryview]) -> None:
        """Fill the views, in order; together they are a number of whole blocks."""

    def write(self, block: int, views: list[memoryview]) -> None: ...

    def flush(self) -> None:
        """What was written survives a power failure from here on."""
