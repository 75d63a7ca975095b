"""What a probe of the host shares with Python, as ctypes lays it over the same page.

The header is the source: struct for struct this is vmm/core/host_offers.h, where each field is explained.
tests/vmm/test_host_offers.py compares every offset and size with cffi's view of the header.
"""

from ctypes import LittleEndianStructure, Structure, c_int32, c_uint32, c_uint64, sizeof
from enum import IntEnum

HOST_OFFERS_VERSION = 1


class Offer(IntEnum):
    """enum host_offer: the experiments in their order."""

    CODE32 = 0
    SIGNALS = 1
    LDT = 2
    DISPATCH = 3
    CPUID_FAULT = 4
    TSC_FAULT = 5
    UMIP = 6
    COSTS = 7
    FILTER = 8


class Verdict(IntEnum):
    """enum host_verdict."""

    UNTESTED = 0
    YES = 1
    NO = 2


class Gate(IntEnum):
    """enum host_gate."""

    SYSCALL64 = 0
    INT80 = 1
    SYSENTER = 2
    SYSCALL32 = 3


class GateState(IntEnum):
    """enum host_gate_state."""

    UNTESTED = 0
    CAUGHT = 1
    ABSENT = 2
    OPEN = 3


class HostFinding(LittleEndianStructure):
    """struct host_finding."""

    _fields_ = [
        ("verdict", c_uint32),
        ("error", c_int32),
        ("signal", c_uint32),
        ("trap", c_uint32),
    ]


assert sizeof(HostFinding) == 16


class HostOffersPage(LittleEndianStructure):
    """struct host_offers."""

    _fields_ = [
        ("version", c_uint32),
        ("under_test", c_uint32),
        ("found", HostFinding * len(Offer)),
        ("gate", c_uint32 * len(Gate)),
        ("system_call_ns", c_uint64),
        ("signal_ns", c_uint64),
        ("map_page_ns", c_uint64),
    ]


assert sizeof(HostOffersPage) == 192

STRUCTURES: dict[str, type[Structure]] = {
    "struct host_finding": HostFinding,
    "struct host_offers": HostOffersPage,
}
