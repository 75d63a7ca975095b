"""Messages between the VMkernel's process and its clients, made and taken apart. Both sides check what they get."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ringfence.errors import BadInput
from vmkernel.host.messages_layout import (
    ANSWER,
    ANSWER_PART_BYTES,
    CAPTURED,
    FRAME_BYTES_MAX,
    FRAMES_OF_ONE,
    HEADER,
    LENGTH,
    LINK,
    MESSAGE_BYTES_MAX,
    WANTED,
    Kind,
    Link,
    WantedBits,
)
from vmkernel.net.port import Wanted

WHERE = "message"
FRAMES_HEAD = HEADER.pack(Kind.FRAMES)
BATCH_BYTES = 32 << 10


def request(fields: dict[str, Any]) -> bytes:
    return HEADER.pack(Kind.REQUEST) + json.dumps(fields).encode()


def answers(fields: dict[str, Any]) -> Iterator[bytes]:
    """In as many messages as it takes."""
    data = json.dumps(fields).encode()
    for start in range(0, len(data), ANSWER_PART_BYTES):
        end = start + ANSWER_PART_BYTES
        yield ANSWER.pack(Kind.ANSWER, end < len(data)) + data[start:end]


def parse_json(data: bytes) -> dict[str, Any]:
    """Raises BadInput."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise BadInput(WHERE, "text", "a JSON object", ascii(data[:40]))
    return fields


def frames_message(frames: Sequence[bytes]) -> tuple[bytes, int]:
    """A message with the first of these, and how many it has."""
    if len(frames) == 1:
        return FRAMES_OF_ONE.pack(Kind.FRAMES, len(frames[0])) + frames[0], 1
    rows: list[bytes] = [FRAMES_HEAD]
    size = count = 0
    for frame in frames:
        if size + len(frame) > BATCH_BYTES and size:
            break
        rows += (LENGTH.pack(len(frame)), frame)
        size += LENGTH.size + len(frame)
        count += 1
    return b"".join(rows), count


def lone_frame(message: memoryview) -> bytes | None:
    """The frame of a message that has just one."""
    alone = len(message) - FRAMES_OF_ONE.size
    if 0 <= alone <= FRAME_BYTES_MAX and FRAMES_OF_ONE.unpack_from(message)[1] == alone:
        return bytes(message[FRAMES_OF_ONE.size :])
    return None


def frames_in(message: memoryview) -> list[bytes]:
    """Raises BadInput."""
    if (frame := lone_frame(message)) is not None:
        return [frame]
    return next_frames(message, HEADER.size, len(message))[0]


def next_frames(message: memoryview | bytes, at: int, most: int) -> tuple[list[bytes], int]:
    """At most so many frames from here on, and where the next is. Raises BadInput."""
    frames: list[bytes] = []
    end = len(message)
    while at < end and len(frames) < most:
        start = at + LENGTH.size
        length = LENGTH.unpack_from(message, at)[0] if start <= end else 0
        at = start + length
        if at > end or length > FRAME_BYTES_MAX:
            raise BadInput(WHERE, "frame", f"at most {min(FRAME_BYTES_MAX, max(end - start, 0))} bytes", str(length))
        frames.append(bytes(message[start:at]))
    return frames, at


def wanted_message(wanted: Wanted) -> bytes:
    bits = (
        WantedBits.RECEIVING * wanted.receiving | WantedBits.UNICAST * wanted.unicast
        | WantedBits.BROADCAST * wanted.broadcast | WantedBits.PROMISCUOUS * wanted.promiscuous
    )  # fmt: skip
    return WANTED.pack(Kind.WANTED, wanted.address, bits, wanted.hashes)


def wanted_in(message: memoryview) -> Wanted:
    """Raises BadInput."""
    if len(message) != WANTED.size:
        raise BadInput(WHERE, "filter", f"{WANTED.size} bytes", str(len(message)))
    _, address, bits, hashes = WANTED.unpack(message)
    return Wanted(
        address, bool(bits & WantedBits.RECEIVING), bool(bits & WantedBits.UNICAST), bool(bits & WantedBits.BROADCAST),
        bool(bits & WantedBits.PROMISCUOUS), hashes,
    )  # fmt: skip


def link_message(state: Link) -> bytes:
    return LINK.pack(Kind.LINK, state)


def interface_message(fields: dict[str, Any]) -> bytes:
    return HEADER.pack(Kind.INTERFACE) + json.dumps(fields).encode()


def captured_message(frame: bytes, at_ns: int, interface: int, lost: int, *, outbound: bool) -> bytes:
    kept = frame[: MESSAGE_BYTES_MAX - CAPTURED.size - HEADER.size]
    return HEADER.pack(Kind.CAPTURED) + CAPTURED.pack(at_ns, interface, outbound, 0, len(frame), lost) + kept
