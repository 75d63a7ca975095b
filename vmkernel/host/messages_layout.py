"""What is said on the socket of the VMkernel's process: SOCK_SEQPACKET, each message begins with its kind.

    client                                   VMkernel
    REQUEST json                             ANSWER more, json; if more is 1, another follows that continues it
    after "port":    FRAMES, WANTED          FRAMES, LINK
    after "capture": nothing                 INTERFACE json, CAPTURED

FRAMES has any number of frames, each after its length. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum

VERSION = 1
SOCKET_NAME, LOCK_NAME, START_LOCK_NAME, LOG_NAME = "kernel.sock", "kernel.lock", "kernel.start", "kernel.log"
MESSAGE_BYTES_MAX = 64 << 10
FRAME_BYTES_MAX = 9000 + 14 + 4
ANSWER_PART_BYTES = 32 << 10
SEND_BUFFER_BYTES = 1 << 20


class Kind(IntEnum):
    """The first byte of a message."""

    REQUEST = 1
    ANSWER = 2
    FRAMES = 3
    WANTED = 4
    LINK = 5
    INTERFACE = 6
    CAPTURED = 7


class Link(IntEnum):
    """The second byte of LINK. STOPPED: the process ends because somebody wants it to."""

    OFF = 0
    ON = 1
    STOPPED = 2


HEADER = struct.Struct("<B")
ANSWER = struct.Struct("<BB")
FRAMES_OF_ONE = struct.Struct("<BH")  # with the first frame's length
LENGTH = struct.Struct("<H")
WANTED = struct.Struct("<B6sBQ")  # kind, address, WantedBits, hashes
LINK = struct.Struct("<BB")
CAPTURED = struct.Struct("<QHBBIQ")  # wall clock in ns, interface, outbound, 0, length, frames lost so far


class WantedBits(IntEnum):
    """Of the third field of WANTED."""

    RECEIVING = 1 << 0
    UNICAST = 1 << 1
    BROADCAST = 1 << 2
    PROMISCUOUS = 1 << 3
