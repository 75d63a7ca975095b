"""An interface of the host, shared with the host's own stack: a packet socket that sees and sends every frame.

Takes CAP_NET_RAW. What the host itself sends by it is not seen, nor does the host see what is sent here. VLAN tags that
the kernel has taken off are put back, and checksums that it left to hardware are completed. Receive offload, which
merges frames, is off meanwhile.
Not modelled: frames of a veth's peer that are longer than the MTU, as its segmentation offload makes them: they are
lost; switch it off there (ethtool -K NAME tso off gso off).
Source: Linux, packet(7), linux/if_packet.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress

from ringfence.errors import HostRefused
from vmkernel.net.ethernet_spec import TYPE
from vmkernel.net.uplinks import host_interface
from vmkernel.net.uplinks.checksums import completed
from vmkernel.net.uplinks.host_device import HostDevice

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 1, 8, 23
PACKET_MR_PROMISC, PACKET_OUTGOING = 1, 4
AUXDATA = struct.Struct("IIIHHHH")  # tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid
CSUM_NOT_READY, VLAN_VALID, VLAN_TPID_VALID = 1 << 3, 1 << 4, 1 << 6
DOT1Q = 0x8100
FRAME_BYTES_MAX = 64 << 10
CONTROL_BYTES = socket.CMSG_SPACE(AUXDATA.size)


class InterfaceDevice(HostDevice):
    """An UplinkDevice."""

    WHAT = "interface"
    REFUSED = frozenset((errno.EMSGSIZE,))
    GONE = frozenset((errno.ENODEV, errno.ENXIO))
    _had_gro = False
    _socket: socket.socket | None = None

    def _open(self) -> None:
        name = self.name
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            with suppress(OSError):
                self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            self._socket.bind((name, ETH_P_ALL))
            member = struct.pack("iHH8s", socket.if_nametoindex(name), PACKET_MR_PROMISC, 0, b"")
            self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, member)
        except OSError as error:
            self._drop()
            hint = " (it takes CAP_NET_RAW)" if error.errno == errno.EPERM else ""
            raise HostRefused(f"interface {name}: cannot be used: {error.strerror}{hint}") from error
        self._had_gro = host_interface.set_gro(name, False)
        self.link = host_interface.is_running(name)

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def _read(self) -> bytes | None:
        assert self._socket is not None
        data, control, _, sender = self._socket.recvmsg(FRAME_BYTES_MAX, CONTROL_BYTES)
        return None if sender[2] == PACKET_OUTGOING else restored(data, control)

    def _write(self, frame: bytes) -> None:
        assert self._socket is not None
        self._socket.send(frame)

    def _release(self) -> None:
        if self._had_gro:
            host_interface.set_gro(self.name, True)
            self._had_gro = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def restored(data: bytes, control: list[tuple[int, int, bytes]]) -> bytes:
    """The frame as it was on the wire."""
    for level, kind, value in control:
        if (level, kind) != (SOL_PACKET, PACKET_AUXDATA) or len(value) < AUXDATA.size:
            continue
        status, *_, tag, kind_of_tag = AUXDATA.unpack_from(value)
        if status & CSUM_NOT_READY:
            data = completed(data)
        if status & VLAN_VALID:
            tag_type = kind_of_tag if status & VLAN_TPID_VALID else DOT1Q
            data = data[:TYPE] + struct.pack("!HH", tag_type, tag) + data[TYPE:]
    return data
