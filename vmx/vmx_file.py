"""The dictionary files of a machine (.vmx, .vmsd): `key = "value"` lines, read, changed and written back.

    file  = *line            line = blank / "#" text / key = "value" [ "#" text ]
    key   = 1*(letter / digit / "." / ":" / "_" / "-"), in any case
    value = text in which |XX is the byte XX

A line that is not changed keeps its bytes, and all lines keep their order. Of a key that is there twice the first
counts, as a warning says. `.encoding` names the characters' encoding,
UTF-8 where it is missing; bytes that it does not have come through as they are. A bare value is accepted with a
warning, though ESX does not, and never written. There is no line continuation. UTF-16 and encrypted files are refused.
Source: VMware virtual machine configuration files as ESX Server 3 writes them; libvirt, "VMware .vmx format".
UNKNOWN: what ESX makes of a "|" without two hex digits after it; kept here as it stands.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ringfence.errors import BadInput, BadOption, HostRefused
from vmkernel.storage import block_file
from vmkernel.storage.block_file import sync_folder
from vmkernel.storage.errors import MissingLink
from vmkernel.storage.place import Elsewhere, Place, elsewhere

FILE_BYTES_MAX = 1 << 20  # a machine's is about 4 KiB
ENCODING_KEY = ".encoding"
DEFAULT_ENCODING = "utf-8"
INTERPRETER_LINE = "#!/usr/bin/vmware"

# What `.encoding` may say, besides the ISO-8859 and windows-125x families: the names that VMware uses.
ENCODINGS = frozenset({
    "utf-8", "us-ascii", "ascii", "shift_jis", "windows-31j", "euc-jp", "gbk", "gb2312", "gb18030", "big5", "euc-kr",
    "windows-936", "windows-932", "windows-949", "windows-950",
})  # fmt: skip
PYTHON_NAMES = {"windows-936": "gbk", "windows-932": "cp932", "windows-31j": "cp932", "windows-949": "cp949"}
PYTHON_NAMES |= {"windows-950": "cp950"}
FAMILIES = re.compile(r"iso-8859-(?:[1-9]|1[013-6])|windows-125[0-8]")

KEY = re.compile(r"[A-Za-z0-9.:_-]+")
LINE = re.compile(
    r"(?P<key>[A-Za-z0-9.:_-]+)[ \t]*=[ \t]*"
    r'(?:"(?P<quoted>[^"]*)"|(?P<bare>[^"#]*))(?P<rest>.*)',
    re.DOTALL,
)
AFTER_VALUE = re.compile(r"[ \t]*(?:#.*)?", re.DOTALL)
ESCAPES = re.compile(r"(?:\|[0-9A-Fa-f]{2})+")
MUST_ESCAPE = re.compile(r'["|\x00-\x1f\x7f]')
BOM = b"\xef\xbb\xbf"
SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line in the log: `machine.vmx:12: ...`."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `raw` is all of it, ending included; `key` is empty for a blank line or a comment."""

    raw: bytes
    number: int = 0
    key: str = ""
    value: str = ""


class VmxFile:
    """The lines of a dictionary file. Keys are found whatever their case."""

    def __init__(self, path: Place, lines: list[Line], encoding: str, notes: list[Note]) -> None:
        self.path, self.encoding, self.notes = path, encoding, notes
        self.lines = lines
        self._newline = b"\r\n" if lines and lines[0].raw.endswith(b"\r\n") else b"\n"
        self._index: dict[str, Line] = {}
        self._reindex()

    @classmethod
    def new(cls, path: Place) -> VmxFile:
        """An empty dictionary with the line that a .vmx file begins with; nothing is written yet."""
        return cls.parse(f"{INTERPRETER_LINE}\n".encode(), path)

    @classmethod
    def read(cls, path: Place) -> VmxFile:
        """Raises BadInput, naming the line, and HostRefused."""
        return cls.parse(read_regular(path), path)

    @classmethod
    def parse(cls, data: bytes, path: Place) -> VmxFile:
        """Raises BadInput."""
        if len(data) > FILE_BYTES_MAX:
            raise BadInput(str(path), "length", f"at most {FILE_BYTES_MAX} bytes", f"{len(data)}")
        if b"\0" in data:
            at = data.count(b"\n", 0, data.index(b"\0")) + 1
            raise BadInput(f"{path}:{at}", "text", "characters", "a NUL byte")
        raws: list[bytes] = re.findall(rb"[^\n]*\n|[^\n]+", data)
        notes: list[Note] = []
        encoding = declared_encoding(raws, path)
        lines: list[Line] = []
        seen: dict[str, int] = {}
        for number, raw in enumerate(raws, 1):
            where = f"{path}:{number}"
            line, warning = parse_line(raw, number, where, encoding)
            first = seen.setdefault(line.key.lower(), number) if line.key else number
            if warning:
                notes.append(Note(where, f"{line.key}: {warning}"))
            if first != number:
                notes.append(Note(where, f"{line.key}: is already in line {first}, which counts"))
            lines.append(line)
        return cls(path, lines, encoding, notes)

    def _reindex(self) -> None:
        self._index = {}
        for line in self.lines:
            if line.key:
                self._index.setdefault(line.key.lower(), line)

    # reading

    def __contains__(self, key: str) -> bool:
        return key.lower() in self._index

    def __iter__(self) -> Iterator[Line]:
        """The lines that count, in their order."""
        return iter(self._index.values())

    def __len__(self) -> int:
        return len(self._index)

    def get(self, key: str, default: str = "") -> str:
        line = self._index.get(key.lower())
        return default if line is None else line.value

    def where(self, key: str) -> str:
        """`path:line` of a key, or the path of one that is not there or new."""
        line = self._index.get(key.lower())
        return f"{self.path}:{line.number}" if line is not None and line.number else str(self.path)

    # changing

    def set(self, key: str, value: str) -> None:
        """Change a key in its place, or add it at the end. Raises BadOption for what no file can hold."""
        if not KEY.fullmatch(key):
            raise BadOption(f"{key!r}: expected letters, digits, '.', ':', '_' and '-' in a key")
        if key.lower() == ENCODING_KEY:
            raise BadOption(f"{self.path}: {ENCODING_KEY}: the other lines are written in it, so it is not changed")
        old = self._index.get(key.lower())
        if old is not None and old.value == value:
            return
        text = f'{old.key if old else key} = "{escape(value)}"'
        try:
            raw = text.encode(self.encoding, "surrogateescape") + self._newline
        except UnicodeEncodeError:
            raw = b""
        if not raw or parse_line(raw, 0, str(self.path), self.encoding)[0].value != value:
            raise BadOption(f"{self.path}: {key}: expected characters of {self.encoding}")
        new = Line(raw, old.number if old else 0, old.key if old else key, value)
        if old is None:
            self._end_last_line()
            self.lines.append(new)
        else:
            kept = (line for line in self.lines if line is old or line.key.lower() != key.lower())
            self.lines = [new if line is old else line for line in kept]
        self._reindex()

    def remove(self, key: str) -> None:
        """Drop every line of this key."""
        self.lines = [line for line in self.lines if line.key.lower() != key.lower()]
        self._reindex()

    def _end_last_line(self) -> None:
        if self.lines and not self.lines[-1].raw.endswith(b"\n"):
            last = self.lines[-1]
            self.lines[-1] = Line(last.raw + self._newline, last.number, last.key, last.value)

    # writing

    def to_bytes(self) -> bytes:
        return b"".join(line.raw for line in self.lines)

    def write(self) -> None:
        """Replace the file, whole or not at all. Raises HostRefused."""
        replace_file(self.path, self.to_bytes())


def parse_line(raw: bytes, number: int, where: str, encoding: str) -> tuple[Line, str]:
    """The line, and a warning or "". Raises BadInput for what is none of blank, comment and assignment."""
    text = (raw.removeprefix(BOM) if number == 1 else raw).decode(encoding, "surrogateescape").strip()
    if not text or text.startswith("#"):
        return Line(raw, number), ""
    match = LINE.fullmatch(text)
    if match is None:
        raise BadInput(where, "line", 'key = "value"', shown(text))
    rest = match["rest"]
    if rest.startswith('"') and match["bare"] is not None:
        expected = "a value in quotes" if match["bare"].strip() else "a closing quote"
        raise BadInput(where, match["key"], expected, shown(match["bare"] + rest))
    if not AFTER_VALUE.fullmatch(rest):
        raise BadInput(where, match["key"], "nothing after the closing quote (a quote in a value is |22)", shown(rest))
    value = unescape((match["bare"] or "").strip() if match["quoted"] is None else match["quoted"], encoding)
    if "\0" in value:
        raise BadInput(where, match["key"], "characters", "a NUL byte")
    warning = "" if match["bare"] is None else "a value without quotes, which ESX does not accept"
    return Line(raw, number, match["key"], value), warning


def declared_encoding(raws: list[bytes], path: Place) -> str:
    """Python's name of the encoding that the file declares. Raises BadInput."""
    for number, raw in enumerate(raws, 1):
        text = raw.decode("latin-1").strip()
        match = LINE.fullmatch(text)
        if match is None or match["key"].lower() != ENCODING_KEY:
            continue
        name = (match["quoted"] if match["quoted"] is not None else match["bare"]).strip()
        if name.lower() not in ENCODINGS and not FAMILIES.fullmatch(name.lower()):
            raise BadInput(f"{path}:{number}", ENCODING_KEY, "UTF-8, windows-1252 or the like", shown(name))
        return PYTHON_NAMES.get(name.lower(), name.lower())
    return DEFAULT_ENCODING


def unescape(text: str, encoding: str) -> str:
    """Each run of |XX is bytes of the file's encoding."""
    if "|" not in text:
        return text

    def decoded(match: re.Match[str]) -> str:
        return bytes.fromhex(match[0].replace("|", "")).decode(encoding, "surrogateescape")

    return ESCAPES.sub(decoded, text)


def escape(value: str) -> str:
    """What must not stand in quotes as it is: the quote, the bar, and control characters. Raises BadOption for NUL."""
    if "\0" in value:
        raise BadOption("value: expected characters, found a NUL")
    return MUST_ESCAPE.sub(lambda match: f"|{ord(match[0]):02X}", value)


def shown(text: str) -> str:
    """A piece of the file for a message: short, quoted, printable."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def read_regular(path: Place) -> bytes:
    """A small file's bytes. Raises BadInput for one that is missing or no regular file, and HostRefused."""
    if (other := elsewhere(path)) is not None:
        return read_elsewhere(other)
    try:
        fd = os.open(cast(Path, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO does not keep us waiting
    except FileNotFoundError:
        raise BadInput(str(path), "no such file", "a file", "nothing") from None
    except (OSError, ValueError) as error:
        raise HostRefused(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(str(path), "kind of file", "a regular file", "something else")
        data = b""
        while len(data) <= FILE_BYTES_MAX and (piece := os.read(fd, FILE_BYTES_MAX + 1)):
            data += piece
        return data
    except OSError as error:
        raise HostRefused(f"{path}: cannot read: {error.strerror}") from error
    finally:
        os.close(fd)


def read_elsewhere(path: Elsewhere) -> bytes:
    try:
        with path.open_file(writable=False, lock=False) as file:
            return file.some_at(0, FILE_BYTES_MAX + 1)
    except MissingLink:
        raise BadInput(str(path), "no such file", "a file", "nothing") from None


def replace_file(path: Place, data: bytes, mode: int = 0o644) -> None:
    """Write beside it, then rename: a reader, and a power cut, finds the old file or the new one. Raises HostRefused.

    An existing file keeps its mode; a symbolic link keeps pointing where it does.
    """
    if elsewhere(path) is not None:
        block_file.replace_file(path, data)
        return
    path, temporary = cast(Path, path), None
    try:
        target = path.resolve()
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(target.stat().st_mode)
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except (OSError, RuntimeError) as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise HostRefused(f"{path}: cannot write: {getattr(error, 'strerror', None) or error}") from error
