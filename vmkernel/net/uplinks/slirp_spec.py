"""libslirp's interface, as far as it is used here: version 1 of its configuration, which every 4.x library takes.

Source: libslirp 4, libslirp.h.
"""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from enum import IntFlag

LIBRARY = "libslirp.so.0"
CONFIG_VERSION = 1


class Poll(IntFlag):
    """SLIRP_POLL_*: what to wait for, and what has happened."""

    IN = 1 << 0
    OUT = 1 << 1
    PRI = 1 << 2
    ERR = 1 << 3
    HUP = 1 << 4


class InAddr(Structure):
    """in_addr: its bytes are in network order."""

    _fields_ = [("word", c_uint32)]


class In6Addr(Structure):
    """in6_addr, likewise."""

    _fields_ = [("words", c_uint32 * 4)]


class Config(Structure):
    """SlirpConfig, version 1."""

    _fields_ = [
        ("version", c_uint32), ("restricted", c_int),
        ("in_enabled", c_bool), ("network", InAddr), ("netmask", InAddr), ("host", InAddr),
        ("in6_enabled", c_bool), ("prefix6", In6Addr), ("prefix6_length", c_uint8), ("host6", In6Addr),
        ("hostname", c_char_p), ("tftp_server_name", c_char_p), ("tftp_path", c_char_p), ("bootfile", c_char_p),
        ("dhcp_start", InAddr), ("nameserver", InAddr), ("nameserver6", In6Addr),
        ("dns_search", POINTER(c_char_p)), ("domain_name", c_char_p),
        ("mtu", c_size_t), ("mru", c_size_t), ("no_host_loopback", c_bool), ("enable_emu", c_bool),
    ]  # fmt: skip


SEND_PACKET = CFUNCTYPE(c_ssize_t, c_void_p, c_size_t, c_void_p)
GUEST_ERROR = CFUNCTYPE(None, c_char_p, c_void_p)
CLOCK_GET_NS = CFUNCTYPE(c_int64, c_void_p)
TIMER_CALLBACK = CFUNCTYPE(None, c_void_p)
TIMER_NEW = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p)  # the first is a TIMER_CALLBACK
TIMER_FREE = CFUNCTYPE(None, c_void_p, c_void_p)
TIMER_MOD = CFUNCTYPE(None, c_void_p, c_int64, c_void_p)
POLL_FD = CFUNCTYPE(None, c_int, c_void_p)
NOTIFY = CFUNCTYPE(None, c_void_p)
ADD_POLL = CFUNCTYPE(c_int, c_int, c_int, c_void_p)
GET_REVENTS = CFUNCTYPE(c_int, c_int, c_void_p)


assert (Config.network.offset, Config.prefix6.offset, Config.hostname.offset) == (12, 28, 64)


class Callbacks(Structure):
    """SlirpCb. Expiry of timers is in milliseconds of the clock."""

    _fields_ = [
        ("send_packet", SEND_PACKET), ("guest_error", GUEST_ERROR), ("clock_get_ns", CLOCK_GET_NS),
        ("timer_new", TIMER_NEW), ("timer_free", TIMER_FREE), ("timer_mod", TIMER_MOD),
        ("register_poll_fd", POLL_FD), ("unregister_poll_fd", POLL_FD), ("notify", NOTIFY),
        ("init_completed", c_void_p), ("timer_new_opaque", c_void_p),  # version 4
    ]  # fmt: skip
