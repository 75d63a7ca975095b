"""The NAT's network, and the process that it is in: libslirp, between a socket with frames and sockets of the host.

    10.0.2.0/24      machines from 10.0.2.15 on, by DHCP      fec0::/64, by router advertisement
    10.0.2.2         the router, and the host itself          fec0::2
    10.0.2.3         DNS: what the host uses                  fec0::3

The process has what a machine sends to parse, and so is none that anything else runs in. It ends with its socket.
Not modelled: SMB, guest command forwarding.
Source: libslirp 4, libslirp.h.
"""

from __future__ import annotations

import ctypes
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from ringfence.errors import HostRefused
from vmkernel.net.ethernet_spec import HEADER_BYTES, MTU
from vmkernel.net.uplinks.place import Nat, parse_place
from vmkernel.net.uplinks.slirp_spec import (
    ADD_POLL,
    CLOCK_GET_NS,
    CONFIG_VERSION,
    GET_REVENTS,
    GUEST_ERROR,
    LIBRARY,
    NOTIFY,
    POLL_FD,
    SEND_PACKET,
    TIMER_CALLBACK,
    TIMER_FREE,
    TIMER_MOD,
    TIMER_NEW,
    Callbacks,
    Config,
    In6Addr,
    InAddr,
    Poll,
)

NETWORK, NETMASK, HOST = "10.0.2.0", "255.255.255.0", "10.0.2.2"
DHCP_START, NAMESERVER = "10.0.2.15", "10.0.2.3"
PREFIX6, PREFIX6_LENGTH, HOST6, NAMESERVER6 = "fec0::", 64, "fec0::2", "fec0::3"
LOOPBACK = "127.0.0.1"
FRAME_BYTES_MAX = 64 << 10
BATCH = 64
MS = 1_000_000
READY = b"\0"  # the first message, if all is well; else its text is the reason
EVENTS = {Poll.IN: select.POLLIN, Poll.OUT: select.POLLOUT, Poll.PRI: select.POLLPRI, Poll.ERR: select.POLLERR,
          Poll.HUP: select.POLLHUP}  # fmt: skip


def is_available() -> bool:
    """Has this host libslirp?"""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


Timer = tuple[Callable[[int | None], None], int | None, int | None]  # what to call, with what, when (ms; None: not set)


class Slirp:
    """One network. `frames` is where its machines are."""

    def __init__(self, nat: Nat, frames: socket.socket) -> None:
        """Raises HostRefused without the library, or where a port of the host is taken."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise HostRefused(f"NAT: this host has no {LIBRARY} (Debian's package libslirp0)") from None
        self._frames = frames
        self._timers: dict[int, Timer] = {}
        self._polled: list[tuple[int, int]] = []
        self._happened: dict[int, int] = {}
        self._callbacks = Callbacks(
            SEND_PACKET(self._send), GUEST_ERROR(lambda text, opaque: None),
            CLOCK_GET_NS(lambda opaque: time.monotonic_ns()), TIMER_NEW(self._timer_new), TIMER_FREE(self._timer_free),
            TIMER_MOD(self._timer_mod), POLL_FD(lambda fd, opaque: None), POLL_FD(lambda fd, opaque: None),
            NOTIFY(lambda opaque: None),
        )  # fmt: skip
        self._add_poll, self._get_revents = ADD_POLL(self._poll_added), GET_REVENTS(self._events_of)
        self._config = configuration(nat)
        self._library.slirp_new.restype = ctypes.c_void_p
        self._slirp = ctypes.c_void_p(
            self._library.slirp_new(ctypes.byref(self._config), ctypes.byref(self._callbacks), None)
        )
        if not self._slirp:
            raise HostRefused("NAT: libslirp does not take its configuration")
        for forward in nat.forwards:
            self._forward(forward.protocol, forward.host_port, forward.guest, forward.guest_port)

    def _forward(self, protocol: str, host_port: int, guest: str, guest_port: int) -> None:
        refused = self._library.slirp_add_hostfwd(
            self._slirp, int(protocol == "udp"), address4(LOOPBACK), host_port, address4(guest), guest_port
        )
        if refused:
            raise HostRefused(f"NAT: {protocol} port {host_port} of {LOOPBACK} is not to be had")

    def run(self) -> None:
        """Until the other end of `frames` is closed."""
        poll = select.poll()
        number = self._frames.fileno()
        while True:
            timeout = ctypes.c_uint32(1000)
            self._polled = []
            self._library.slirp_pollfds_fill(self._slirp, ctypes.byref(timeout), self._add_poll, None)
            for fd, events in self._polled:
                poll.register(fd, events)
            poll.register(number, select.POLLIN)
            self._happened = dict(poll.poll(min(timeout.value, self._timer_wait_ms())))
            for fd, _ in self._polled:
                poll.unregister(fd)
            self._library.slirp_pollfds_poll(self._slirp, 0, self._get_revents, None)
            self._run_timers()
            if self._happened.get(number) and not self._take_frames():
                return

    def _take_frames(self) -> bool:
        """False: nobody is at the other end."""
        try:
            for _ in range(BATCH):
                frame = self._frames.recv(FRAME_BYTES_MAX, socket.MSG_DONTWAIT)
                if not frame:
                    return False
                if HEADER_BYTES <= len(frame) <= HEADER_BYTES + MTU:
                    self._library.slirp_input(self._slirp, frame, len(frame))
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    # called by the library

    def _send(self, data: int, length: int, opaque: int | None) -> int:
        try:
            self._frames.send(ctypes.string_at(data, length), socket.MSG_DONTWAIT)
        except OSError:
            return 0  # lost, as on a wire that is full
        return length

    def _poll_added(self, fd: int, events: int, opaque: int | None) -> int:
        self._polled.append((fd, sum(value for name, value in EVENTS.items() if events & name)))
        return len(self._polled) - 1

    def _events_of(self, index: int, opaque: int | None) -> int:
        happened = self._happened.get(self._polled[index][0], 0) if 0 <= index < len(self._polled) else 0
        return sum(name for name, value in EVENTS.items() if happened & value)

    def _timer_new(self, callback: int, argument: int | None, opaque: int | None) -> int:
        number = max(self._timers, default=0) + 1
        self._timers[number] = (TIMER_CALLBACK(callback), argument, None)
        return number

    def _timer_free(self, timer: int | None, opaque: int | None) -> None:
        self._timers.pop(timer or 0, None)

    def _timer_mod(self, timer: int | None, expire_ms: int, opaque: int | None) -> None:
        if timer in self._timers:
            callback, argument, _ = self._timers[timer]
            self._timers[timer] = (callback, argument, expire_ms)

    def _timer_wait_ms(self) -> int:
        now = time.monotonic_ns() // MS
        return max(0, min((at - now for _, _, at in self._timers.values() if at is not None), default=1000))

    def _run_timers(self) -> None:
        now = time.monotonic_ns() // MS
        for number, (callback, argument, at) in list(self._timers.items()):
            if at is not None and at <= now and number in self._timers:
                self._timers[number] = (callback, argument, None)
                callback(argument)


def configuration(nat: Nat) -> Config:
    return Config(
        version=CONFIG_VERSION, in_enabled=True, network=address4(NETWORK), netmask=address4(NETMASK),
        host=address4(HOST), in6_enabled=True, prefix6=address6(PREFIX6), prefix6_length=PREFIX6_LENGTH,
        host6=address6(HOST6), tftp_path=nat.tftp.encode() or None, bootfile=nat.boot.encode() or None,
        dhcp_start=address4(DHCP_START), nameserver=address4(NAMESERVER), nameserver6=address6(NAMESERVER6),
        mtu=MTU, mru=MTU,
    )  # fmt: skip


def address4(text: str) -> InAddr:
    return InAddr.from_buffer_copy(IPv4Address(text).packed)


def address6(text: str) -> In6Addr:
    return In6Addr.from_buffer_copy(IPv6Address(text).packed)


def main(arguments: list[str]) -> int:
    """`python -m vmkernel.net.uplinks.slirp FD NAT`: what NatDevice starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: it is for those who started us
    frames = socket.socket(fileno=int(arguments[0]))
    place = parse_place(arguments[1])
    assert isinstance(place, Nat)
    try:
        slirp = Slirp(place, frames)
    except HostRefused as error:
        frames.send(str(error).encode())
        return 2
    frames.send(READY)
    slirp.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
