"""The adapter commands of the BT-958: what each does with its parameters, and what it replies.

Not modelled: the options and timings of the host bus, which are accepted; the SCSI command by parameters (83h), which
finds no target; the BIOS's commands.
Source: BusLogic MultiMaster technical reference manual, "Host Adapter Commands".
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from typing import Protocol

from hw.scsi.buslogic_spec import (
    ALL_TARGETS,
    AUTO_BUS_FLAGS,
    AUTO_EXTENDED_TRANSLATION,
    AUTO_LEVEL,
    AUTO_MODEL,
    AUTO_SCSI,
    AUTO_SIGNATURE,
    BOARD,
    BUFFER_BYTES,
    BUS_EISA_PCI,
    FIFO_BYTES,
    FIRMWARE_DIGIT,
    FIRMWARE_LETTER,
    FIRMWARE_REST,
    HOST_ID,
    IRQ_FIRST,
    IRQ_LAST,
    ISA_DISABLED,
    ISA_PORTS,
    LEVEL_INTERRUPT,
    LOCAL_RAM_BYTES,
    MODEL,
    MODEL_BYTES,
    SETUP_SIGNATURE,
    SG_LIMIT,
    SYNC_AND_PARITY,
    TARGETS_MAX,
    WIDE_ULTRA,
    AutoScsi,
    Command,
    ExtendedSetupReply,
    HostStatus,
    SetupReply,
)
from hw.scsi.parallel_bus import ScsiBus, fetch, store
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

LUN_0 = 1


class AdapterState(LittleEndianStructure):
    """What commands set."""

    _fields_ = [
        ("base", c_uint32), ("mailboxes", c_uint8), ("wide", c_uint8), ("strict", c_uint8), ("extended_lun", c_uint8),
        ("next_out", c_uint8), ("next_in", c_uint8), ("scan_owed", c_uint8), ("isa_code", c_uint8),
        ("enabled", c_uint8), ("ready_interrupt", c_uint8), ("reserved", c_uint16),
        ("ram", c_uint8 * LOCAL_RAM_BYTES), ("buffer", c_uint8 * BUFFER_BYTES),
    ]  # fmt: skip


assert sizeof(AdapterState) == 16 + LOCAL_RAM_BYTES + BUFFER_BYTES


class Adapter(Protocol):
    """Whose commands these are."""

    @property
    def adapter(self) -> AdapterState: ...

    @property
    def bus(self) -> ScsiBus: ...

    @property
    def memory(self) -> GuestMemory: ...

    def irq(self) -> int:
        """The ISA IRQ of its interrupt, or another number."""


def fresh_adapter(isa_code: int) -> AdapterState:
    """After a reset: no mailboxes, and the settings as they are kept. The I/O address stays."""
    settings = AutoScsi(
        signature=(c_uint8 * 2)(*AUTO_SIGNATURE), length=sizeof(AutoScsi), model=(c_uint8 * 6)(*AUTO_MODEL),
        interrupt_mode=AUTO_LEVEL, scsi_id=HOST_ID, bus_flags=AUTO_BUS_FLAGS, bios_flags=AUTO_EXTENDED_TRANSLATION,
        enabled=ALL_TARGETS, wide=ALL_TARGETS, fast=ALL_TARGETS, sync=ALL_TARGETS, disconnect=ALL_TARGETS,
        ultra=ALL_TARGETS,
    )  # fmt: skip
    fresh = AdapterState(enabled=1, isa_code=isa_code)
    fresh.ram[AUTO_SCSI : AUTO_SCSI + sizeof(AutoScsi)] = bytes(settings)
    return fresh


def nothing(chip: Adapter, parameters: bytes) -> bytes:
    """Accepted, without effect here."""
    return b""


def init_mailbox(chip: Adapter, parameters: bytes) -> bytes | None:
    return mailboxes(chip, parameters[0], int.from_bytes(parameters[1:4], "big"), wide=False)


def init_extended_mailbox(chip: Adapter, parameters: bytes) -> bytes | None:
    return mailboxes(chip, parameters[0], int.from_bytes(parameters[1:5], "little"), wide=True)


def mailboxes(chip: Adapter, count: int, base: int, *, wide: bool) -> bytes | None:
    """None is none: there must be at least one."""
    if not count:
        return None
    state = chip.adapter
    state.mailboxes, state.base, state.wide = count, base, int(wide)
    state.next_out = state.next_in = state.scan_owed = 0
    return b""


def board_id(chip: Adapter, parameters: bytes) -> bytes:
    return BOARD


def ready_interrupt(chip: Adapter, parameters: bytes) -> bytes | None:
    if parameters[0] > 1:
        return None
    chip.adapter.ready_interrupt = parameters[0]
    return b""


def interrupt_enable(chip: Adapter, parameters: bytes) -> bytes | None:
    if parameters[0] > 1:
        return None
    chip.adapter.enabled = parameters[0]
    return b""


def devices_0_7(chip: Adapter, parameters: bytes) -> bytes:
    return devices(chip, range(8))


def devices_8_15(chip: Adapter, parameters: bytes) -> bytes:
    return devices(chip, range(8, TARGETS_MAX))


def devices(chip: Adapter, targets: range) -> bytes:
    """A bit map of LUNs for each target."""
    return bytes(LUN_0 if target in chip.bus.targets else 0 for target in targets)


def targets(chip: Adapter, parameters: bytes) -> bytes:
    found = sum(1 << target for target in chip.bus.targets)
    return (found & ALL_TARGETS).to_bytes(2, "little")


def configuration(chip: Adapter, parameters: bytes) -> bytes:
    """Without a DMA channel; an IRQ that this byte cannot name is none."""
    irq = chip.irq()
    return bytes([0, 1 << irq - IRQ_FIRST if IRQ_FIRST <= irq <= IRQ_LAST else 0, HOST_ID])


def setup(chip: Adapter, parameters: bytes) -> bytes:
    state = chip.adapter
    reply = SetupReply(
        flags=SYNC_AND_PARITY, mailboxes=state.mailboxes, disconnect_0_7=0xFF, wide_0_7=0xFF, wide_active_0_7=0xFF,
        disconnect_8_15=0xFF, wide_8_15=0xFF, wide_active_8_15=0xFF,
    )  # fmt: skip
    reply.base[:] = (state.base & 0xFFFFFF).to_bytes(3, "big")
    reply.signature[:] = SETUP_SIGNATURE
    return cut(bytes(reply), parameters[0])


def extended_setup(chip: Adapter, parameters: bytes) -> bytes:
    state = chip.adapter
    reply = ExtendedSetupReply(
        bus=BUS_EISA_PCI[0], sg_limit=SG_LIMIT, mailboxes=state.mailboxes, base=state.base, interrupt=LEVEL_INTERRUPT,
        features=WIDE_ULTRA,
    )  # fmt: skip
    reply.firmware[:] = FIRMWARE_REST
    return cut(bytes(reply), parameters[0])


def cut(reply: bytes, length: int) -> bytes:
    """As many bytes as are asked for: what there is not is 0."""
    return reply[:length].ljust(length, b"\0")


def sync_periods(chip: Adapter, parameters: bytes) -> bytes:
    return cut(b"", parameters[0])


def model(chip: Adapter, parameters: bytes) -> bytes:
    return cut(MODEL.ljust(MODEL_BYTES), parameters[0])


def firmware_digit(chip: Adapter, parameters: bytes) -> bytes:
    return FIRMWARE_DIGIT


def firmware_letter(chip: Adapter, parameters: bytes) -> bytes:
    return FIRMWARE_LETTER


def pci_info(chip: Adapter, parameters: bytes) -> bytes:
    """Where it answers on ISA, and its IRQ; termination is not told."""
    return bytes([chip.adapter.isa_code, chip.irq(), 0, 0])


def isa_address(chip: Adapter, parameters: bytes) -> bytes | None:
    if parameters[0] > ISA_DISABLED:
        return None
    chip.adapter.isa_code = parameters[0]
    return b""


def echo(chip: Adapter, parameters: bytes) -> bytes:
    return parameters


def strict_round_robin(chip: Adapter, parameters: bytes) -> bytes:
    chip.adapter.strict = int(parameters[0] != 0)
    return b""


def ccb_format(chip: Adapter, parameters: bytes) -> bytes:
    chip.adapter.extended_lun = int(parameters[0] != 0)
    return b""


def execute_scsi(chip: Adapter, parameters: bytes) -> bytes:
    return bytes([0, 0, HostStatus.SELECTION_TIMEOUT, 0])


def store_ram(chip: Adapter, parameters: bytes) -> bytes | None:
    first, count = parameters[0], parameters[1]
    if first + count > LOCAL_RAM_BYTES:
        return None
    chip.adapter.ram[first : first + count] = cut(parameters[2:], count)
    return b""


def fetch_ram(chip: Adapter, parameters: bytes) -> bytes:
    """What is beyond the memory is 0."""
    first, count = parameters[0], parameters[1]
    return cut(bytes(chip.adapter.ram)[first:], count)


def from_memory(size: int) -> CommandHandler:
    """Diagnostics: so many bytes of guest memory to the adapter."""

    def copy(chip: Adapter, parameters: bytes) -> bytes | None:
        try:
            chip.adapter.buffer[:size] = fetch(chip.memory, int.from_bytes(parameters, "big"), size)
        except RingfenceError:
            return None
        return b""

    return copy


def to_memory(size: int) -> CommandHandler:
    """And back."""

    def copy(chip: Adapter, parameters: bytes) -> bytes | None:
        try:
            store(chip.memory, int.from_bytes(parameters, "big"), bytes(chip.adapter.buffer)[:size])
        except RingfenceError:
            return None
        return b""

    return copy


CommandHandler = Callable[[Adapter, bytes], bytes | None]  # the reply; None: the command is invalid
COMMANDS: dict[Command, CommandHandler] = {
    Command.TEST_INTERRUPT:          nothing,
    Command.INIT_MAILBOX:            init_mailbox,
    Command.BOARD_ID:                board_id,
    Command.MAILBOX_READY_INTERRUPT: ready_interrupt,
    Command.SELECTION_TIMEOUT:       nothing,
    Command.BUS_ON:                  nothing,
    Command.BUS_OFF:                 nothing,
    Command.TRANSFER_RATE:           nothing,
    Command.DEVICES_0_7:             devices_0_7,
    Command.CONFIGURATION:           configuration,
    Command.SETUP:                   setup,
    Command.WRITE_BUFFER:            from_memory(BUFFER_BYTES),
    Command.READ_BUFFER:             to_memory(BUFFER_BYTES),
    Command.WRITE_FIFO:              from_memory(FIFO_BYTES),
    Command.READ_FIFO:               to_memory(FIFO_BYTES),
    Command.ECHO:                    echo,
    Command.DIAGNOSTICS:             nothing,
    Command.SET_OPTIONS:             nothing,
    Command.DEVICES_8_15:            devices_8_15,
    Command.TARGETS:                 targets,
    Command.INTERRUPT_ENABLE:        interrupt_enable,
    Command.INIT_EXTENDED_MAILBOX:   init_extended_mailbox,
    Command.EXECUTE_SCSI:            execute_scsi,
    Command.FIRMWARE_DIGIT:          firmware_digit,
    Command.FIRMWARE_LETTER:         firmware_letter,
    Command.PCI_INFO:                pci_info,
    Command.MODEL:                   model,
    Command.SYNC_PERIODS:            sync_periods,
    Command.EXTENDED_SETUP:          extended_setup,
    Command.STRICT_ROUND_ROBIN:      strict_round_robin,
    Command.STORE_RAM:               store_ram,
    Command.FETCH_RAM:               fetch_ram,
    Command.ISA_ADDRESS:             isa_address,
    Command.CCB_FORMAT:              ccb_format,
}  # fmt: skip
assert len(ISA_PORTS) == ISA_DISABLED
