"""vmxnet, VMware's paravirtual network adapter, in the form that drivers of ESX 3's time know; no behaviour.

The driver shares a block of memory, DriverData, with rings of receive and transmit entries behind it.
Lengths are bytes, addresses guest physical, all is little-endian.
Source: VMware's open-vm-tools 2008.02.13, headers vmxnet_def.h, vmxnet2_def.h and net_sg.h (layouts and numbers).
UNKNOWN: which versions VMware's own adapter says it takes; drivers need that their own lies between LOW and HIGH.
"""

from ctypes import LittleEndianStructure, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

from ringfence.pci_header import CONFIG_BYTES, IoBar, PciIds, Pin, header
from ringfence.registers import RegBank

IDS = PciIds(0x15AD, 0x0720, 0x020000, revision=0x10, subsystem_vendor=0x15AD, subsystem=0x0720)
IO_BAR = IoBar(0, 64)
CONFIG = RegBank("vmxnet", CONFIG_BYTES, *header(IDS, (IO_BAR,), pin=Pin.INTA, command_rw=0x0147, latency_rw=0xFF))

# where a vlance shows it, and how it becomes one

MORPH_PORT, MORPH_BYTES = 0x20, 4
MORPHED_OFFSET = MORPH_PORT + MORPH_BYTES
IS_LANCE, IS_VMXNET = 0x2934, 0x4392


class Register(IntEnum):
    """32 bits each, but for the two addresses of six bytes."""

    INIT_ADDR = 0x00
    INIT_LENGTH = 0x04
    TX_ADDR = 0x08
    COMMAND = 0x0C
    MAC_ADDR = 0x10
    LOW_VERSION = 0x18
    HIGH_VERSION = 0x1C
    STATUS = 0x20
    TOE_INIT_ADDR = 0x24
    APROM_ADDR = 0x28
    INT_ENABLE = 0x30
    WAKE_PATTERNS = 0x34


REGISTERS_BYTES = 0x40
ADDRESS_BYTES = 6
VERSION_LOW = VERSION_HIGH = 0xBABE864F


class Command(IntEnum):
    """Written to COMMAND; reading it back gives the result."""

    INTR_ACK = 0x0001
    UPDATE_LADRF = 0x0002
    UPDATE_IFF = 0x0004
    INTR_DISABLE = 0x0020
    INTR_ENABLE = 0x0040
    CHECK_TX_DONE = 0x0100
    GET_NUM_RX_BUFFERS = 0x0200
    GET_NUM_TX_BUFFERS = 0x0400
    PIN_TX_BUFFERS = 0x0800
    GET_CAPABILITIES = 0x1000
    GET_FEATURES = 0x2000
    SET_POWER_FULL = 0x4000
    SET_POWER_LOW = 0x8000


class Status(IntFlag):
    """STATUS register."""

    CONNECTED = 1 << 0
    ENABLED = 1 << 1
    TX_PINNED = 1 << 2


class Capability(IntFlag):
    """What GET_CAPABILITIES may say; only those that there are."""

    APROM = 1 << 7


class Interface(IntFlag):
    """DriverData.ifflags: what is received."""

    PROMISCUOUS = 1 << 0
    BROADCAST = 1 << 1
    MULTICAST = 1 << 2
    DIRECTED = 1 << 3


class Owner(IntEnum):
    """Whose a ring's entry is. For a receive ring's, NIC is an empty buffer; for a transmit ring's, a frame."""

    DRIVER = 0
    DRIVER_PENDING = 1
    NIC = 2
    NIC_PENDING = 3


class TxFlag(IntFlag):
    """Of a transmit entry."""

    CAN_KEEP = 1 << 0
    RING_LOW = 1 << 1
    MORE = 1 << 5


class DriverData(LittleEndianStructure):
    """As 32-bit drivers have it, whose 64-bit fields are aligned to four bytes."""

    _pack_ = 4
    _fields_ = [
        ("magic", c_uint32),
        ("rx_ring_length", c_uint32), ("rx_driver_next", c_uint32),
        ("rx_ring_length_2", c_uint32), ("rx_driver_next_2", c_uint32), ("not_used_1", c_uint32),
        ("ifflags", c_uint32), ("ladrf", c_uint32 * 2), ("tx_dont_cluster_size", c_uint32),
        ("tx_ring_length", c_uint32), ("tx_driver_cur", c_uint32), ("tx_driver_next", c_uint32),
        ("tx_stopped", c_uint32), ("tx_cluster_length", c_uint32), ("tx_num_deferred", c_uint32),
        ("not_used_3", c_uint32), ("total_rx_buffers", c_uint32), ("rx_buffer_phys_start", c_uint32 * 2),
        ("extra", c_uint32 * 2), ("max_frags", c_uint16), ("feature_ctl", c_uint16),
        ("saved_rx_nic_next", c_uint32), ("saved_rx_nic_next_2", c_uint32), ("saved_tx_nic_next", c_uint32),
        ("length", c_uint32), ("rx_ring_offset", c_uint32), ("rx_ring_offset_2", c_uint32),
        ("tx_ring_offset", c_uint32), ("debug_level", c_uint32), ("tx_buffer_phys_start", c_uint32),
        ("tx_buffer_phys_length", c_uint32),
        ("tx_pkt_max_size", c_uint32), ("stats", c_uint32 * 10),
    ]  # fmt: skip


assert sizeof(DriverData) == 176
assert (DriverData.ifflags.offset, DriverData.tx_stopped.offset, DriverData.length.offset) == (0x18, 0x34, 0x68)


class RxEntry(LittleEndianStructure):
    """A buffer of the receive ring. `index` is the driver's own."""

    _pack_ = 4
    _fields_ = [
        ("paddr", c_uint64), ("buffer_length", c_uint32), ("actual_length", c_uint32), ("ownership", c_uint16),
        ("flags", c_uint16), ("index", c_uint32),
    ]  # fmt: skip


class SgElement(LittleEndianStructure):
    """A piece of a frame: an address of 48 bits, and how many bytes."""

    _fields_ = [("addr_low", c_uint32), ("addr_hi", c_uint16), ("length", c_uint16)]


SG_MAX = 6


class TxEntry(LittleEndianStructure):
    """A frame of the transmit ring, or a part of one; `sg_length` counts its pieces."""

    _fields_ = [
        ("flags", c_uint16), ("ownership", c_uint16), ("extra", c_uint32), ("tso_mss", c_uint32),
        ("sg_addr_type", c_uint16), ("sg_length", c_uint16), ("sg", SgElement * SG_MAX),
    ]  # fmt: skip


assert (sizeof(RxEntry), sizeof(SgElement), sizeof(TxEntry)) == (24, 8, 64)
RING_MAX = 512  # entries: more than any driver asks for
