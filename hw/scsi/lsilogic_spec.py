"""LSI 53C1030 Fusion-MPT: registers, messages, scatter/gather elements; no behaviour.

Names are MPI's. Lengths are bytes where nothing else is said; addresses are guest physical. All is little-endian.
Source: LSI Logic Fusion-MPT Message Passing Interface specification 1.2, as in its headers mpi.h, mpi_ioc.h and
mpi_init.h; LSI53C1030 technical manual. The PCI identity is that of VMware machines.
"""

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum, IntFlag

from ringfence.pci_header import CONFIG_BYTES, IoBar, MemBar, PciIds, Pin, header
from ringfence.registers import Reg, RegBank

IDS = PciIds(0x1000, 0x0030, 0x010000, revision=1)
IO_BAR, MEMORY_BAR = IoBar(0, 128), MemBar(1, 0x1000)
BARS = (IO_BAR, MEMORY_BAR)
CONFIG = RegBank(
    "lsilogic", CONFIG_BYTES, *header(IDS, BARS, pin=Pin.INTA, command_rw=0x0147),
    *(Reg(offset, f"DEVICE_{offset:02X}", 4, 0, 0xFFFFFFFF) for offset in range(0x40, 0x100, 4)),
)  # fmt: skip


class Register(IntEnum):
    """System interface registers, 32 bits each, alike in I/O and memory."""

    DOORBELL = 0x00
    WRITE_SEQUENCE = 0x04
    HOST_DIAGNOSTIC = 0x08
    INT_STATUS = 0x30
    INT_MASK = 0x34
    REQUEST_FIFO = 0x40
    REPLY_FIFO = 0x44
    HIGH_PRIORITY_FIFO = 0x48


class IocState(IntEnum):
    """Doorbell, bits 31:28."""

    RESET = 0
    READY = 1
    OPERATIONAL = 2
    FAULT = 4


STATE_SHIFT, WHO_SHIFT = 28, 24
DOORBELL_ACTIVE = 1 << 27


class DoorbellFunction(IntEnum):
    """Doorbell as written, bits 31:24. Bits 23:16 are a handshake's length in dwords."""

    MESSAGE_UNIT_RESET = 0x40
    IO_UNIT_RESET = 0x41
    HANDSHAKE = 0x42
    REPLY_FRAME_REMOVAL = 0x43


RESETS = (DoorbellFunction.MESSAGE_UNIT_RESET, DoorbellFunction.IO_UNIT_RESET)


class Fault(IntEnum):
    """Doorbell, bits 15:0 in the FAULT state."""

    REQUEST_FRAME = 0x8112  # bus fault while a request frame was read
    REPLY_FRAME = 0x8114  # bus fault while a reply frame was written
    OVERFLOW = 0x0006  # more requests than IOCFacts gave credits for


class Handshake(IntEnum):
    """How far a doorbell handshake is."""

    IDLE = 0
    REQUEST = 1
    REPLY = 2


class IntStatus(IntFlag):
    """What interrupts. Bit 31, a doorbell write that is not taken yet, is never seen: each is taken at once."""

    DOORBELL = 1 << 0
    REPLY = 1 << 3


MASKABLE = int(IntStatus.DOORBELL | IntStatus.REPLY)


class Diagnostic(IntFlag):
    """Host diagnostic register."""

    MEM_ENABLE = 1 << 0
    DISABLE_ARM = 1 << 1
    RESET_ADAPTER = 1 << 2
    RW_ENABLE = 1 << 4
    RESET_HISTORY = 1 << 5
    WRITE_ENABLED = 1 << 7
    PREVENT_BOOT = 1 << 9


DIAGNOSTIC_RW = int(
    Diagnostic.MEM_ENABLE | Diagnostic.DISABLE_ARM | Diagnostic.RW_ENABLE | Diagnostic.PREVENT_BOOT
)  # fmt: skip
KEYS = (0x4, 0xB, 0x2, 0x7, 0xD)
NO_REPLY = 0xFFFFFFFF
ADDRESS_REPLY = 1 << 31

# what IOCFacts says
CREDITS = 128
FIFO_DEPTH = 256  # of each queue
FRAME_BYTES = 128
REPLY_BYTES_MAX = 80
HANDSHAKE_DWORDS_MAX = 32
MESSAGE_VERSION = 0x0102
PRODUCT_SCSI_1030 = 0x0102
CHAIN_DEPTH = 34
BLOCK_SIZE = 12
FIRMWARE_VERSION = 0
MAX_DEVICES, MAX_BUSES, HOST_ID = 16, 1, 7
PORT_SCSI, PROTOCOL_INITIATOR = 1, 8


class Function(IntEnum):
    """Byte 3 of each message."""

    SCSI_IO = 0x00
    SCSI_TASK_MGMT = 0x01
    IOC_INIT = 0x02
    IOC_FACTS = 0x03
    CONFIG = 0x04
    PORT_FACTS = 0x05
    PORT_ENABLE = 0x06
    EVENT_NOTIFICATION = 0x07
    EVENT_ACK = 0x08
    FW_DOWNLOAD = 0x09
    FW_UPLOAD = 0x12


class IocStatus(IntEnum):
    """Offset 0Eh of each reply."""

    SUCCESS = 0x0000
    INVALID_FUNCTION = 0x0001
    INVALID_SGL = 0x0003
    INVALID_FIELD = 0x0007
    INVALID_STATE = 0x0008
    CONFIG_INVALID_ACTION = 0x0020
    CONFIG_INVALID_TYPE = 0x0021
    CONFIG_INVALID_PAGE = 0x0022
    CONFIG_INVALID_DATA = 0x0023
    CONFIG_CANT_COMMIT = 0x0025
    SCSI_INVALID_BUS = 0x0041
    SCSI_INVALID_TARGET = 0x0042
    SCSI_DEVICE_NOT_THERE = 0x0043
    SCSI_DATA_OVERRUN = 0x0044
    SCSI_DATA_UNDERRUN = 0x0045
    SCSI_TASK_TERMINATED = 0x0048
    SCSI_TASK_MGMT_FAILED = 0x004A
    SCSI_IOC_TERMINATED = 0x004B


class ScsiState(IntFlag):
    """SCSI I/O reply, offset 0Dh."""

    AUTOSENSE_VALID = 0x01
    AUTOSENSE_FAILED = 0x02
    NO_SCSI_STATUS = 0x04
    TERMINATED = 0x08


class IoControl(IntFlag):
    """SCSI I/O request, offset 14h."""

    DIRECTION = 3 << 24
    WRITE = 1 << 24
    READ = 2 << 24
    ATTRIBUTE = 7 << 8


TAGGED_HEAD, TAGGED_ORDERED, UNTAGGED = 1 << 8, 2 << 8, 5 << 8
SENSE_64 = 0x01  # message flags: the sense buffer's address has an upper half


class TaskType(IntEnum):
    """Task management."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    TARGET_RESET = 3
    RESET_BUS = 4
    LUN_RESET = 5
    CLEAR_TASK_SET = 6
    QUERY_TASK = 7
    CLEAR_ACA = 8


RESPONSE_COMPLETE, RESPONSE_NOT_SUPPORTED, RESPONSE_SUCCEEDED = 0x00, 0x04, 0x08
EVENT_CHANGE = 0x0A
EVENT_FLAGS_INTERNAL = 0x80


class Sge(IntFlag):
    """Flags of a scatter/gather element, the upper byte of its first dword."""

    END_OF_LIST = 0x01
    ADDRESS_64 = 0x02
    HOST_TO_IOC = 0x04
    LOCAL_ADDRESS = 0x08
    ELEMENT = 0x30
    SIMPLE = 0x10
    CHAIN = 0x30
    END_OF_BUFFER = 0x40
    LAST_ELEMENT = 0x80


SGE_LENGTH = 0xFFFFFF
ELEMENTS_MAX = 8192  # followed in one list; a guest's list may be a ring


class RequestHeader(LittleEndianStructure):
    """What all requests begin with."""

    _pack_ = 1
    _fields_ = [
        ("specific_0", c_uint8), ("specific_1", c_uint8), ("chain_offset", c_uint8), ("function", c_uint8),
        ("specific_4", c_uint8), ("specific_5", c_uint8), ("specific_6", c_uint8), ("flags", c_uint8),
        ("context", c_uint32),
    ]  # fmt: skip


assert sizeof(RequestHeader) == 12


class ReplyHeader(LittleEndianStructure):
    """What all replies begin with; alone it is the default reply. `length` is in dwords."""

    _pack_ = 1
    _fields_ = [
        ("specific_0", c_uint8), ("specific_1", c_uint8), ("length", c_uint8), ("function", c_uint8),
        ("specific_4", c_uint8), ("specific_5", c_uint8), ("specific_6", c_uint8), ("flags", c_uint8),
        ("context", c_uint32), ("reserved", c_uint16), ("ioc_status", c_uint16), ("log_info", c_uint32),
    ]  # fmt: skip


assert sizeof(ReplyHeader) == 20


class IocInit(LittleEndianStructure):
    """IOC_INIT request."""

    _pack_ = 1
    _fields_ = [
        ("who_init", c_uint8), ("reserved_1", c_uint8), ("chain_offset", c_uint8), ("function", c_uint8),
        ("ioc_flags", c_uint8), ("max_devices", c_uint8), ("max_buses", c_uint8), ("flags", c_uint8),
        ("context", c_uint32), ("reply_frame_size", c_uint16), ("reserved_e", c_uint16),
        ("host_mfa_high", c_uint32), ("sense_buffer_high", c_uint32),
    ]  # fmt: skip


assert sizeof(IocInit) == 24


class IocFactsReply(LittleEndianStructure):
    """IOC_FACTS reply of MPI 1.2."""

    _pack_ = 1
    _fields_ = [
        ("message_version", c_uint16), ("length", c_uint8), ("function", c_uint8), ("header_version", c_uint16),
        ("ioc_number", c_uint8), ("flags", c_uint8), ("context", c_uint32), ("exceptions", c_uint16),
        ("ioc_status", c_uint16), ("log_info", c_uint32), ("max_chain_depth", c_uint8), ("who_init", c_uint8),
        ("block_size", c_uint8), ("ioc_flags", c_uint8), ("reply_queue_depth", c_uint16),
        ("request_frame_dwords", c_uint16), ("reserved_1c", c_uint16), ("product_id", c_uint16),
        ("host_mfa_high", c_uint32), ("global_credits", c_uint16), ("ports", c_uint8), ("event_state", c_uint8),
        ("sense_buffer_high", c_uint32), ("reply_frame_size", c_uint16), ("max_devices", c_uint8),
        ("max_buses", c_uint8), ("firmware_image_size", c_uint32), ("capabilities", c_uint32),
        ("firmware_version", c_uint32),
    ]  # fmt: skip


assert sizeof(IocFactsReply) == 60


class PortFactsReply(LittleEndianStructure):
    """PORT_FACTS reply."""

    _pack_ = 1
    _fields_ = [
        ("reserved_0", c_uint16), ("length", c_uint8), ("function", c_uint8), ("reserved_4", c_uint16),
        ("port_number", c_uint8), ("flags", c_uint8), ("context", c_uint32), ("reserved_c", c_uint16),
        ("ioc_status", c_uint16), ("log_info", c_uint32), ("reserved_14", c_uint8), ("port_type", c_uint8),
        ("max_devices", c_uint16), ("port_scsi_id", c_uint16), ("protocol_flags", c_uint16), ("unused", c_uint32 * 3),
    ]  # fmt: skip


assert sizeof(PortFactsReply) == 40


class EventReply(LittleEndianStructure):
    """EVENT_NOTIFICATION reply, with one dword of event data."""

    _pack_ = 1
    _fields_ = [
        ("data_length", c_uint16), ("length", c_uint8), ("function", c_uint8), ("reserved_4", c_uint16),
        ("ack_required", c_uint8), ("flags", c_uint8), ("context", c_uint32), ("reserved_c", c_uint16),
        ("ioc_status", c_uint16), ("log_info", c_uint32), ("event", c_uint32), ("event_context", c_uint32),
        ("data", c_uint32),
    ]  # fmt: skip


assert sizeof(EventReply) == 32


class FwUploadReply(LittleEndianStructure):
    """FW_UPLOAD reply."""

    _pack_ = 1
    _fields_ = [("header", ReplyHeader), ("actual_image_size", c_uint32)]


assert sizeof(FwUploadReply) == 24


class ScsiIo(LittleEndianStructure):
    """SCSI_IO request; its scatter/gather list follows."""

    _pack_ = 1
    _fields_ = [
        ("target", c_uint8), ("bus", c_uint8), ("chain_offset", c_uint8), ("function", c_uint8),
        ("cdb_length", c_uint8), ("sense_length", c_uint8), ("reserved_6", c_uint8), ("flags", c_uint8),
        ("context", c_uint32), ("lun", c_uint8 * 8), ("control", c_uint32), ("cdb", c_uint8 * 16),
        ("data_length", c_uint32), ("sense_low", c_uint32),
    ]  # fmt: skip


assert sizeof(ScsiIo) == 48


class ScsiIoReply(LittleEndianStructure):
    """SCSI_IO reply."""

    _pack_ = 1
    _fields_ = [
        ("target", c_uint8), ("bus", c_uint8), ("length", c_uint8), ("function", c_uint8), ("cdb_length", c_uint8),
        ("sense_length", c_uint8), ("reserved_6", c_uint8), ("flags", c_uint8), ("context", c_uint32),
        ("scsi_status", c_uint8), ("scsi_state", c_uint8), ("ioc_status", c_uint16), ("log_info", c_uint32),
        ("transfer_count", c_uint32), ("sense_count", c_uint32), ("response_info", c_uint32), ("task_tag", c_uint16),
        ("reserved_22", c_uint16),
    ]  # fmt: skip


assert sizeof(ScsiIoReply) == 36


class TaskManagement(LittleEndianStructure):
    """SCSI_TASK_MGMT request."""

    _pack_ = 1
    _fields_ = [
        ("target", c_uint8), ("bus", c_uint8), ("chain_offset", c_uint8), ("function", c_uint8),
        ("reserved_4", c_uint8), ("task_type", c_uint8), ("reserved_6", c_uint8), ("flags", c_uint8),
        ("context", c_uint32), ("lun", c_uint8 * 8), ("reserved_14", c_uint32 * 7), ("task_context", c_uint32),
    ]  # fmt: skip


assert sizeof(TaskManagement) == 52


class TaskManagementReply(LittleEndianStructure):
    """SCSI_TASK_MGMT reply."""

    _pack_ = 1
    _fields_ = [
        ("target", c_uint8), ("bus", c_uint8), ("length", c_uint8), ("function", c_uint8), ("response_code", c_uint8),
        ("task_type", c_uint8), ("reserved_6", c_uint8), ("flags", c_uint8), ("context", c_uint32),
        ("reserved_c", c_uint16), ("ioc_status", c_uint16), ("log_info", c_uint32), ("termination_count", c_uint32),
    ]  # fmt: skip


assert sizeof(TaskManagementReply) == 24


class PageHeader(LittleEndianStructure):
    """Of a configuration page. `length` is in dwords; the upper half of `kind` is attributes."""

    _pack_ = 1
    _fields_ = [("version", c_uint8), ("length", c_uint8), ("number", c_uint8), ("kind", c_uint8)]


assert sizeof(PageHeader) == 4


class ConfigRequest(LittleEndianStructure):
    """CONFIG request; one scatter/gather element follows."""

    _pack_ = 1
    _fields_ = [
        ("action", c_uint8), ("reserved_1", c_uint8), ("chain_offset", c_uint8), ("function", c_uint8),
        ("ext_page_length", c_uint16), ("ext_page_type", c_uint8), ("flags", c_uint8), ("context", c_uint32),
        ("reserved_c", c_uint8 * 8), ("header", PageHeader), ("page_address", c_uint32),
    ]  # fmt: skip


assert sizeof(ConfigRequest) == 28


class ConfigReply(LittleEndianStructure):
    """CONFIG reply."""

    _pack_ = 1
    _fields_ = [
        ("action", c_uint8), ("reserved_1", c_uint8), ("length", c_uint8), ("function", c_uint8),
        ("ext_page_length", c_uint16), ("ext_page_type", c_uint8), ("flags", c_uint8), ("context", c_uint32),
        ("reserved_c", c_uint16), ("ioc_status", c_uint16), ("log_info", c_uint32), ("header", PageHeader),
    ]  # fmt: skip


assert sizeof(ConfigReply) == 24
