"""BusLogic BT-958: registers, adapter commands, mailboxes, command control blocks; no behaviour.

Mailboxes and control blocks have two formats: of 24-bit addresses, which are big-endian as in the AHA-154x, and of
32-bit addresses. Lengths are bytes; addresses are guest physical.
Source: BusLogic MultiMaster SCSI host adapters, technical reference manual; Adaptec AHA-1540B user's manual for what is
older. The PCI identity is that of VMware machines.
"""

from ctypes import BigEndianStructure, LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum, IntFlag
from typing import NamedTuple

from ringfence.pci_header import CONFIG_BYTES, IoBar, MemBar, PciIds, Pin, header
from ringfence.pci_header import Command as PciCommand
from ringfence.registers import RegBank

IDS = PciIds(0x104B, 0x1040, 0x010000, revision=1)
IO_BAR, MEMORY_BAR = IoBar(0, 32, width=1), MemBar(1, 32, width=1)
BARS = (IO_BAR, MEMORY_BAR)
# Drivers leave mastering to the firmware of VMware's machines, which allows it; other firmware leaves it as it is.
CONFIG = RegBank("buslogic", CONFIG_BYTES, *header(IDS, BARS, pin=Pin.INTA, command=int(PciCommand.MASTER)))
ISA_PORTS = (0x330, 0x334, 0x230, 0x234, 0x130, 0x134)
ISA_DISABLED = 6
REGISTERS = 4


class Register(IntEnum):
    """Ports of the adapter, from its base."""

    STATUS = 0  # written: control
    COMMAND = 1  # written: command and parameters; read: data in
    INTERRUPT = 2
    GEOMETRY = 3


class Control(IntFlag):
    """What a write to port 0 does."""

    RESET_BUS = 0x10
    RESET_INTERRUPT = 0x20
    SOFT_RESET = 0x40
    HARD_RESET = 0x80


class StatusBit(IntFlag):
    """Status register."""

    COMMAND_INVALID = 0x01
    DATA_IN_READY = 0x04
    BUSY = 0x08
    READY = 0x10
    INITIALIZATION_REQUIRED = 0x20
    DIAGNOSTIC_FAILURE = 0x40
    DIAGNOSTIC_ACTIVE = 0x80


class Interrupt(IntFlag):
    """Interrupt register."""

    MAILBOX_LOADED = 0x01  # IMBL
    MAILBOX_READY = 0x02  # OMBR
    COMMAND_COMPLETE = 0x04  # CMDC
    BUS_RESET = 0x08  # RSTS
    VALID = 0x80  # INTV


GEOMETRY_EXTENDED = 0x80


class Command(IntEnum):
    """Adapter commands."""

    TEST_INTERRUPT = 0x00
    INIT_MAILBOX = 0x01
    EXECUTE_MAILBOX = 0x02
    BOARD_ID = 0x04
    MAILBOX_READY_INTERRUPT = 0x05
    SELECTION_TIMEOUT = 0x06
    BUS_ON = 0x07
    BUS_OFF = 0x08
    TRANSFER_RATE = 0x09
    DEVICES_0_7 = 0x0A
    CONFIGURATION = 0x0B
    SETUP = 0x0D
    WRITE_BUFFER = 0x1A
    READ_BUFFER = 0x1B
    WRITE_FIFO = 0x1C
    READ_FIFO = 0x1D
    ECHO = 0x1F
    DIAGNOSTICS = 0x20
    SET_OPTIONS = 0x21
    DEVICES_8_15 = 0x23
    TARGETS = 0x24
    INTERRUPT_ENABLE = 0x25
    INIT_EXTENDED_MAILBOX = 0x81
    EXECUTE_SCSI = 0x83
    FIRMWARE_DIGIT = 0x84
    FIRMWARE_LETTER = 0x85
    PCI_INFO = 0x86
    MODEL = 0x8B
    SYNC_PERIODS = 0x8C
    EXTENDED_SETUP = 0x8D
    STRICT_ROUND_ROBIN = 0x8F
    STORE_RAM = 0x90
    FETCH_RAM = 0x91
    ISA_ADDRESS = 0x95
    CCB_FORMAT = 0x96


class Form(NamedTuple):
    """How many parameters a command takes, and whether its end interrupts.

    `counted`: that parameter says how many more follow.
    """

    parameters: int = 0
    counted: int | None = None
    interrupts: bool = True


FORMS = {
    Command.TEST_INTERRUPT:          Form(),
    Command.INIT_MAILBOX:            Form(4),
    Command.BOARD_ID:                Form(),
    Command.MAILBOX_READY_INTERRUPT: Form(1, interrupts=False),
    Command.SELECTION_TIMEOUT:       Form(4),
    Command.BUS_ON:                  Form(1),
    Command.BUS_OFF:                 Form(1),
    Command.TRANSFER_RATE:           Form(1),
    Command.DEVICES_0_7:             Form(),
    Command.CONFIGURATION:           Form(),
    Command.SETUP:                   Form(1),
    Command.WRITE_BUFFER:            Form(3),
    Command.READ_BUFFER:             Form(3),
    Command.WRITE_FIFO:              Form(3),
    Command.READ_FIFO:               Form(3),
    Command.ECHO:                    Form(1),
    Command.DIAGNOSTICS:             Form(),
    Command.SET_OPTIONS:             Form(1, counted=0),
    Command.DEVICES_8_15:            Form(),
    Command.TARGETS:                 Form(),
    Command.INTERRUPT_ENABLE:        Form(1),
    Command.INIT_EXTENDED_MAILBOX:   Form(5),
    Command.EXECUTE_SCSI:            Form(12, counted=11),
    Command.FIRMWARE_DIGIT:          Form(),
    Command.FIRMWARE_LETTER:         Form(),
    Command.PCI_INFO:                Form(),
    Command.MODEL:                   Form(1),
    Command.SYNC_PERIODS:            Form(1),
    Command.EXTENDED_SETUP:          Form(1),
    Command.STRICT_ROUND_ROBIN:      Form(1),
    Command.STORE_RAM:               Form(2, counted=1),
    Command.FETCH_RAM:               Form(2, interrupts=False),
    Command.ISA_ADDRESS:             Form(1, interrupts=False),
    Command.CCB_FORMAT:              Form(1),
}  # fmt: skip
PARAMETERS_MAX = 2 + 0xFF + 12
REPLY_MAX = 256

BOARD = b"AA50"  # BT-958, firmware 5.0...
FIRMWARE_DIGIT, FIRMWARE_LETTER = b"7", b"B"
MODEL = b"958"
MODEL_BYTES = 5
TARGETS_MAX, HOST_ID = 16, 7
SG_LIMIT = 8192
LEVEL_INTERRUPT = 0x40
WIDE_ULTRA = 0x09
IRQ_FIRST, IRQ_LAST = 9, 15  # that the configuration reply can name
SYNC_AND_PARITY = 0x03
SETUP_SIGNATURE = b"BDF"  # the last: on PCI
BUFFER_BYTES, FIFO_BYTES = 64, 54
ALL_TARGETS = 0xFFFF
LOCAL_RAM_BYTES = 256
AUTO_SCSI = 64  # where the settings are in local RAM


class AutoScsi(LittleEndianStructure):
    """The settings that the adapter's own configuration utility keeps."""

    _pack_ = 1
    _fields_ = [
        ("signature", c_uint8 * 2), ("length", c_uint8), ("model", c_uint8 * 6), ("reserved_9", c_uint8),
        ("interrupt_mode", c_uint8), ("dma", c_uint8), ("irq", c_uint8), ("reserved_13", c_uint8),
        ("scsi_id", c_uint8), ("bus_flags", c_uint8), ("bus_on", c_uint8), ("bus_off", c_uint8),
        ("bios_flags", c_uint8), ("enabled", c_uint16), ("wide", c_uint16), ("fast", c_uint16), ("sync", c_uint16),
        ("disconnect", c_uint16), ("start_unit", c_uint16), ("ignored_31", c_uint16), ("reserved_33", c_uint8),
        ("ultra", c_uint16), ("reserved_36", c_uint8 * 5), ("max_lun", c_uint8), ("reserved_42", c_uint8),
        ("boot_flags", c_uint8), ("boot_id", c_uint8), ("reserved_45", c_uint8 * 17), ("checksum", c_uint16),
    ]  # fmt: skip


assert sizeof(AutoScsi) == 64
AUTO_SIGNATURE, AUTO_MODEL = b"FA", b"BT-958"
AUTO_LEVEL, AUTO_BUS_FLAGS, AUTO_EXTENDED_TRANSLATION = 0x04, 0x32, 0x04


class SetupReply(LittleEndianStructure):
    """Reply to SETUP."""

    _pack_ = 1
    _fields_ = [
        ("flags", c_uint8), ("rates", c_uint8 * 3), ("mailboxes", c_uint8), ("base", c_uint8 * 3),
        ("sync_0_7", c_uint8 * 8), ("disconnect_0_7", c_uint8), ("signature", c_uint8 * 3), ("wide_0_7", c_uint8),
        ("wide_active_0_7", c_uint8), ("sync_8_15", c_uint8 * 8), ("disconnect_8_15", c_uint8),
        ("reserved", c_uint8), ("wide_8_15", c_uint8), ("wide_active_8_15", c_uint8),
    ]  # fmt: skip


assert sizeof(SetupReply) == 34


class ExtendedSetupReply(LittleEndianStructure):
    """Reply to EXTENDED_SETUP. The bus is an EISA or PCI one: 'E'."""

    _pack_ = 1
    _fields_ = [
        ("bus", c_uint8), ("bios_address", c_uint8), ("sg_limit", c_uint16), ("mailboxes", c_uint8),
        ("base", c_uint32), ("interrupt", c_uint8), ("firmware", c_uint8 * 3), ("features", c_uint8),
    ]  # fmt: skip


assert sizeof(ExtendedSetupReply) == 14
BUS_EISA_PCI, FIRMWARE_REST = b"E", b"07B"


class Action(IntEnum):
    """An outgoing mailbox's code."""

    FREE = 0
    START = 1
    ABORT = 2


class Done(IntEnum):
    """An incoming mailbox's code."""

    FREE = 0
    WITHOUT_ERROR = 1
    ABORTED = 2
    NOT_FOUND = 3
    WITH_ERROR = 4
    INVALID_CCB = 5


class Box24(BigEndianStructure):
    """A mailbox, outgoing or incoming, with a 24-bit address."""

    _pack_ = 1
    _fields_ = [("code", c_uint8), ("ccb", c_uint8 * 3)]


class Box32(LittleEndianStructure):
    """A mailbox with a 32-bit address; an outgoing one has no statuses."""

    _pack_ = 1
    _fields_ = [
        ("ccb", c_uint32), ("host_status", c_uint8), ("device_status", c_uint8), ("reserved", c_uint8),
        ("code", c_uint8),
    ]  # fmt: skip


assert sizeof(Box24) == 4 and sizeof(Box32) == 8


class Opcode(IntEnum):
    """What a control block asks for."""

    PLAIN = 0x00
    LIST = 0x02
    PLAIN_RESIDUAL = 0x03
    LIST_RESIDUAL = 0x04
    RESET_TARGET = 0x81


class HostStatus(IntEnum):
    """What the adapter says of a command."""

    NORMAL = 0x00
    UNDERRUN = 0x0C
    SELECTION_TIMEOUT = 0x11
    OVERRUN = 0x12
    INVALID_ACTION = 0x15
    INVALID_OPCODE = 0x16
    INVALID_PARAMETER = 0x1A
    AUTOSENSE_FAILED = 0x1B
    BUS_RESET = 0x22
    TARGET_RESET = 0x25
    ABORTED = 0x26


class Ccb24(BigEndianStructure):
    """A command control block of 24-bit addresses; sense data goes where its CDB ends."""

    _pack_ = 1
    _fields_ = [
        ("opcode", c_uint8), ("control", c_uint8), ("cdb_length", c_uint8), ("sense_length", c_uint8),
        ("data_length", c_uint8 * 3), ("data", c_uint8 * 3), ("link", c_uint8 * 3), ("link_id", c_uint8),
        ("host_status", c_uint8), ("device_status", c_uint8), ("reserved", c_uint8 * 2), ("cdb", c_uint8 * 12),
    ]  # fmt: skip


assert sizeof(Ccb24) == 0x1E


class Ccb32(LittleEndianStructure):
    """A command control block of 32-bit addresses."""

    _pack_ = 1
    _fields_ = [
        ("opcode", c_uint8), ("control", c_uint8), ("cdb_length", c_uint8), ("sense_length", c_uint8),
        ("data_length", c_uint32), ("data", c_uint32), ("reserved_c", c_uint8 * 2), ("host_status", c_uint8),
        ("device_status", c_uint8), ("target", c_uint8), ("lun", c_uint8), ("cdb", c_uint8 * 12),
        ("reserved_1e", c_uint8 * 2), ("reserved_20", c_uint32), ("sense", c_uint32),
    ]  # fmt: skip


assert sizeof(Ccb32) == 0x28
CCB_DATA_LENGTH, CCB_STATUS, CCB_CDB = 0x04, 0x0E, 0x12
CDB_MAX = 12
SENSE_DEFAULT, SENSE_NONE = 0, 1  # sense lengths with a meaning of their own
SENSE_DEFAULT_BYTES = 14


class Direction(IntEnum):
    """Control byte, bits 4:3."""

    BY_COMMAND = 0
    IN = 1
    OUT = 2
    NONE = 3


TAG_ENABLE = 0x20  # in the control byte (32-bit), and in the LUN byte of the older format
EXTENDED_LUN, LEGACY_LUN = 0x3F, 0x1F
SG_24_BYTES, SG_32_BYTES = 6, 8
