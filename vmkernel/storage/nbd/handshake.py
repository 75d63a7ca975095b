"""The handshake: a client's options, each with its answers, up to the one that begins the transmission.

`Handshake.option` is bytes in, bytes out; `negotiate` puts it on a stream.
Not modelled: oldstyle negotiation, TLS, extended headers.
Source: The NBD protocol, "Handshake phase", "Option types", "Metadata contexts".
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.nbd.export import PREFERRED_BYTES, REQUEST_BYTES_MAX, Export
from vmkernel.storage.nbd.messages import (
    CLIENT_FLAGS,
    COUNT,
    EXPORT_REPLY,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    INFO_TEXT,
    LENGTH,
    META_CONTEXT,
    OPTION,
    OPTION_REPLY,
)
from vmkernel.storage.nbd.nbd_spec import (
    BASE,
    BASE_ALLOCATION,
    GREETING_MAGIC,
    NAME_BYTES_MAX,
    OPTION_MAGIC,
    OPTION_REPLY_MAGIC,
    PADDING_BYTES,
    HandshakeFlag,
    Info,
    Option,
    ReplyType,
)
from vmkernel.storage.nbd.stream import Ended, Stream

HANDSHAKE_S = 30.0
OPTION_BYTES_MAX = 64 << 10
OPTIONS_MAX = 256  # no client needs that many
OFFERED = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
ALLOCATION_ID = 1

Answer = tuple[ReplyType, bytes]


@dataclass(frozen=True, slots=True)
class Agreed:
    """How replies look, and whether BLOCK_STATUS may be asked."""

    structured: bool
    allocation: bool


class Malformed(Exception):
    """An option's data does not hold what it says."""


class Handshake:
    """What one client has asked for so far."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.structured = False
        self.context_for: str | None = None  # the name with which base:allocation was chosen
        self.chosen: str | None = None  # the name with which the transmission begins

    def option(self, number: int, data: bytes) -> list[Answer]:
        """The answers to one option; the last of them ends it."""
        known = ANSWERS.get(number)
        if known is None:
            return [(ReplyType.ERR_UNSUP, b"this server does not know the option")]
        try:
            return known(self, data)
        except (Malformed, struct.error, UnicodeDecodeError) as error:
            return [(ReplyType.ERR_INVALID, str(error).encode())]

    def agreed(self) -> Agreed:
        return Agreed(self.structured, self.structured and self.context_for == self.chosen)

    def export_name(self, data: bytes, *, padded: bool) -> bytes:
        """The answer to EXPORT_NAME, which cannot be an error. Raises Ended."""
        name = data.decode(errors="replace")
        if not self.export.has_name(name):
            raise Ended("the client wants another export")
        self.chosen = name
        reply = EXPORT_REPLY.pack(self.export.size, self.export.flags(structured=self.structured))
        return reply + bytes(PADDING_BYTES if padded else 0)

    def _list(self, data: bytes) -> list[Answer]:
        refuse_data(data)
        name = self.export.name.encode()
        entry = LENGTH.pack(len(name)) + name + self.export.description.encode()
        return [(ReplyType.SERVER, entry), (ReplyType.ACK, b"")]

    def _structured_reply(self, data: bytes) -> list[Answer]:
        refuse_data(data)
        self.structured = True
        return [(ReplyType.ACK, b"")]

    def _info(self, data: bytes) -> list[Answer]:
        fields = Fields(data)
        name = fields.text()
        wanted = {fields.count() for _ in range(fields.count())}
        fields.end()
        if not self.export.has_name(name):
            return [unknown(name)]
        flags = self.export.flags(structured=self.structured)
        answers = [INFO_EXPORT.pack(Info.EXPORT, self.export.size, flags)]
        if Info.BLOCK_SIZE in wanted:
            answers.append(INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, SECTOR_BYTES, PREFERRED_BYTES, REQUEST_BYTES_MAX))
        if Info.NAME in wanted:
            answers.append(INFO_TEXT.pack(Info.NAME) + self.export.name.encode())
        if Info.DESCRIPTION in wanted:
            answers.append(INFO_TEXT.pack(Info.DESCRIPTION) + self.export.description.encode())
        return [*((ReplyType.INFO, answer) for answer in answers), (ReplyType.ACK, b"")]

    def _go(self, data: bytes) -> list[Answer]:
        answers = self._info(data)
        if answers[-1][0] is ReplyType.ACK:
            self.chosen = Fields(data).text()
        return answers

    def _list_contexts(self, data: bytes) -> list[Answer]:
        name, queries = self._queries(data)
        if not self.export.has_name(name):
            return [unknown(name)]
        found = not queries or not {BASE, BASE_ALLOCATION}.isdisjoint(queries)
        return [*([(ReplyType.META_CONTEXT, META_CONTEXT.pack(0) + BASE_ALLOCATION.encode())] if found else []),
                (ReplyType.ACK, b"")]  # fmt: skip

    def _set_contexts(self, data: bytes) -> list[Answer]:
        self.context_for = None
        name, queries = self._queries(data)
        if not self.export.has_name(name):
            return [unknown(name)]
        if BASE_ALLOCATION not in queries:
            return [(ReplyType.ACK, b"")]
        self.context_for = name
        context = META_CONTEXT.pack(ALLOCATION_ID) + BASE_ALLOCATION.encode()
        return [(ReplyType.META_CONTEXT, context), (ReplyType.ACK, b"")]

    def _queries(self, data: bytes) -> tuple[str, list[str]]:
        if not self.structured:
            raise Malformed("structured replies must be asked for first")
        fields = Fields(data)
        name = fields.text()
        queries = [fields.text() for _ in range(fields.length())]
        fields.end()
        if not all(":" in query for query in queries):
            raise Malformed("a query begins with a namespace and a colon")
        return name, queries


ANSWERS: dict[int, Callable[[Handshake, bytes], list[Answer]]] = {
    Option.LIST: Handshake._list,
    Option.INFO: Handshake._info,
    Option.GO: Handshake._go,
    Option.STRUCTURED_REPLY: Handshake._structured_reply,
    Option.LIST_META_CONTEXT: Handshake._list_contexts,
    Option.SET_META_CONTEXT: Handshake._set_contexts,
}  # EXPORT_NAME and ABORT end the handshake, STARTTLS is not offered


class Fields:
    """An option's data, taken from the front. Raises Malformed and struct.error."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def length(self) -> int:
        (value,) = LENGTH.unpack_from(self._data, self._at)
        self._at += LENGTH.size
        return int(value)

    def count(self) -> int:
        (value,) = COUNT.unpack_from(self._data, self._at)
        self._at += COUNT.size
        return int(value)

    def text(self) -> str:
        length = self.length()
        if length > min(NAME_BYTES_MAX, len(self._data) - self._at):
            raise Malformed(f"a text of {length} bytes does not fit in the option")
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def end(self) -> None:
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} bytes too many")


def refuse_data(data: bytes) -> None:
    if data:
        raise Malformed("this option has no data")


def unknown(name: str) -> Answer:
    return ReplyType.ERR_UNKNOWN, f"there is no export {name[:64]!r}".encode()


def negotiate(stream: Stream, export: Export, limit_s: float = HANDSHAKE_S) -> Agreed | None:
    """What the client and we have agreed on; None: it wants no transmission. Raises Ended."""
    stream.deadline = time.monotonic() + limit_s
    stream.send([GREETING.pack(GREETING_MAGIC, OPTION_MAGIC, OFFERED)])
    (flags,) = CLIENT_FLAGS.unpack(stream.take(CLIENT_FLAGS.size))
    if flags & ~int(OFFERED):  # an IntFlag's complement has known bits only
        raise Ended("the client has flags that were not offered")
    handshake = Handshake(export)
    for _ in range(OPTIONS_MAX):
        magic, number, length = OPTION.unpack(stream.take(OPTION.size))
        if magic != OPTION_MAGIC:
            raise Ended("not an option")
        if length > OPTION_BYTES_MAX:
            stream.discard(length)
            answers: list[Answer] = [(ReplyType.ERR_TOO_BIG, b"at most %d bytes" % OPTION_BYTES_MAX)]
        else:
            data = stream.take(length)
            if number == Option.EXPORT_NAME:
                stream.send([handshake.export_name(data, padded=not flags & HandshakeFlag.NO_ZEROES)])
                stream.deadline = None
                return handshake.agreed()
            answers = [(ReplyType.ACK, b"")] if number == Option.ABORT else handshake.option(number, data)
        stream.send([part for kind, text in answers for part in (reply_head(number, kind, text), text) if part])
        if number == Option.ABORT:
            return None
        if handshake.chosen is not None:
            stream.deadline = None
            return handshake.agreed()
    raise Ended("too many options")


def reply_head(option: int, kind: ReplyType, data: bytes) -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data))
