"""NBD: the layouts of its messages, as structs to pack and unpack. All numbers are big-endian.

Comments name the fields; words in capitals are types of nbd_spec.py.
Source: The NBD protocol (doc/proto.md of the NetworkBlockDevice project).
"""

from __future__ import annotations

from struct import Struct

GREETING = Struct(">QQH")  # magic, option magic, HandshakeFlag
CLIENT_FLAGS = Struct(">I")
OPTION = Struct(">QII")  # magic, Option, length of what follows
OPTION_REPLY = Struct(">QIII")  # magic, Option, ReplyType, length of what follows
EXPORT_REPLY = Struct(">QH")  # to EXPORT_NAME: size, TransmissionFlag, and then PADDING_BYTES unless NO_ZEROES
INFO_EXPORT = Struct(">HQH")  # Info.EXPORT, size, TransmissionFlag
INFO_BLOCK_SIZE = Struct(">HIII")  # Info.BLOCK_SIZE, least, preferred and largest request in bytes
INFO_TEXT = Struct(">H")  # Info.NAME or Info.DESCRIPTION, and then the text
LENGTH = Struct(">I")  # before a name or a query, and how many queries
COUNT = Struct(">H")  # how many information requests, and each of them
META_CONTEXT = Struct(">I")  # its ID, and then its name

REQUEST = Struct(">IHHQQI")  # magic, CommandFlag, Command, cookie, offset, length
SIMPLE_REPLY = Struct(">IIQ")  # magic, Error, cookie; then a READ's data
CHUNK = Struct(">IHHQI")  # magic, ChunkFlag, ChunkType, cookie, length of what follows
CHUNK_DATA = Struct(">Q")  # offset; then the data
CHUNK_HOLE = Struct(">QI")  # offset, length
CHUNK_STATUS = Struct(">I")  # ID of the context; then EXTENTs
EXTENT = Struct(">II")  # length, State
CHUNK_ERROR = Struct(">IH")  # Error, length of the text that follows

assert (GREETING.size, OPTION.size, OPTION_REPLY.size) == (18, 16, 20)
assert (REQUEST.size, SIMPLE_REPLY.size, CHUNK.size) == (28, 16, 20)
