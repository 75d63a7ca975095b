"""The descriptor of a VMDK: text that names the extents, the parent, and what the disk is for.

    header     version=1, CID=, parentCID=, createType=, parentFileNameHint=
    extents    RW 20971520 VMFS "vm-flat.vmdk"
    ddb        ddb.geometry.cylinders = "1305"

Words in any case, lines in any order, LF or CRLF; the text ends at the first NUL. What is rewritten keeps every line it
does not change byte for byte: unknown keys, comments, blanks, line ends and the encoding.
Source: VMware Virtual Disk Format 1.1 and 5.0, "The Descriptor File"; libvmdk, VMWare Virtual Disk Format (VMDK).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.vmdk.descriptor_spec import (
    DEFAULT_ENCODING,
    ENCODINGS,
    EXTENTS_MAX,
    NEVER_WRITTEN,
    NO_PARENT,
    SPELLINGS,
    TEXT_BYTES_MAX,
    VERSIONS,
    Access,
    Adapter,
    CreateType,
    ExtentType,
)
from vmkernel.storage.vmdk.geometry import geometry

ENCODING = re.compile(rb'^[ \t]*encoding[ \t]*=[ \t]*"?([^"\r\n]{0,64}?)"?[ \t]*\r?$', re.IGNORECASE | re.MULTILINE)
SETTING = re.compile(r"[ \t]*([A-Za-z][\w.:-]*)[ \t]*=(.*)\Z", re.DOTALL)
EXTENT = re.compile(
    r"""[ \t]*(?P<access>RW|RDONLY|NOACCESS) [ \t]+ (?P<sectors>\d+) [ \t]+ (?P<type>[A-Za-z]+)
        (?: [ \t]+ "(?P<name>.*)" (?= [ \t] | \Z )
            (?: [ \t]+ (?P<offset>\d+) (?P<rest> (?: [ \t]+ .* )? ) )? )? [ \t]* \Z""",
    re.IGNORECASE | re.VERBOSE,
)
ACCESS_WORD = re.compile(r"[ \t]*(RW|RDONLY|NOACCESS)[ \t]", re.IGNORECASE)
HEX = re.compile(r"[0-9A-Fa-f]{1,8}\Z")
SECTORS_LIMIT = 1 << 54  # bytes of a disk must fit in 63 bits


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One extent. `name` is empty for ZERO; `offset` is in sectors of the file; `at` is the line's byte in the text."""

    access: Access
    sectors: int
    type: ExtentType
    name: str = ""
    offset: int = 0
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        line = f"{self.access} {self.sectors} {self.type}"
        if self.name:
            line += f' "{self.name}"'
        return f"{line} {self.offset}" if self.type == ExtentType.FLAT else line


class Descriptor:
    """A descriptor's text, as lines that are kept and values that may be changed."""

    def __init__(self, lines: list[bytes], where: str) -> None:
        self.lines, self.where = lines, where
        named = ENCODING.search(b"\n".join(line.rstrip(b"\n") for line in lines))
        self.encoding_name = named[1].decode("ascii", "replace") if named else ""
        known = ENCODINGS.get(self.encoding_name.lower().replace("_", "-")) or ENCODINGS.get(self.encoding_name.lower())
        if self.encoding_name and known is None:
            raise CorruptImage(where, 0, "encoding", "one that a descriptor can have", repr(self.encoding_name[:40]))
        self.encoding = known or DEFAULT_ENCODING
        self._index()

    @classmethod
    def parse(cls, data: bytes, where: object) -> Descriptor:
        """Raises CorruptImage for what is not a descriptor."""
        if len(data) > TEXT_BYTES_MAX:
            raise CorruptImage(where, TEXT_BYTES_MAX, "descriptor", f"at most {TEXT_BYTES_MAX} bytes", f"{len(data)}")
        descriptor = cls(split(data), str(where))
        version = descriptor.get("version")
        if version not in VERSIONS:
            found = "none" if version is None else repr(version[:40])
            raise CorruptImage(where, 0, "version of the descriptor", f"one of {', '.join(VERSIONS)}", found)
        for key in ("CID", "parentCID"):
            if not HEX.match(text := descriptor.get(key) or "ffffffff"):
                raise CorruptImage(where, 0, key, "up to 8 hexadecimal digits", repr(text[:40]))
        return descriptor

    def _index(self) -> None:
        self._settings: dict[str, tuple[int, str, str]] = {}
        extents, at = [], 0
        for number, raw in enumerate(self.lines):
            line = raw.rstrip(b"\r\n").decode(self.encoding, "surrogateescape")
            if ACCESS_WORD.match(line):
                extents.append(self._extent(line, at))
                if len(extents) > EXTENTS_MAX:
                    raise CorruptImage(self.where, at, "extents", f"at most {EXTENTS_MAX}", "more")
            elif not line.lstrip().startswith("#") and (found := SETTING.match(line)):
                self._settings.setdefault(found[1].lower(), (number, found[1], bare(found[2].strip(" \t"))))
            at += len(raw)
        self.extents: tuple[ExtentLine, ...] = tuple(extents)

    def _extent(self, line: str, at: int) -> ExtentLine:
        found = EXTENT.match(line)
        if not found:
            raise CorruptImage(self.where, at, "extent", 'access, sectors, type, "name" and offset', repr(line[:80]))
        word = found["type"].upper()
        if word not in set(ExtentType):
            raise CorruptImage(self.where, at, "type of extent", "/".join(ExtentType), word[:20])
        kind, name = ExtentType(word), found["name"] or ""
        numbers = [
            int(text) if len(text) < 20 else SECTORS_LIMIT for text in (found["sectors"], found["offset"] or "0")
        ]
        if max(numbers) >= SECTORS_LIMIT or (not numbers[0] and kind != ExtentType.ZERO):
            raise CorruptImage(self.where, at, "extent", f"1 to {SECTORS_LIMIT - 1} sectors", repr(line[:80]))
        if (kind != ExtentType.ZERO and not name) or "\0" in name:
            raise CorruptImage(self.where, at, "extent", "the name of a file", repr(line[:80]))
        return ExtentLine(Access(found["access"].upper()), numbers[0], kind, name, numbers[1], at)

    # values

    def get(self, key: str) -> str | None:
        """A header's or a ddb entry's value, without quotes; None where there is none."""
        found = self._settings.get(key.lower())
        return None if found is None else found[2]

    def ddb(self) -> dict[str, str]:
        return {key: value for _, key, value in self._settings.values() if key.lower().startswith("ddb.")}

    def settings(self) -> Iterator[tuple[str, str]]:
        """Every key and value, in the order of their lines."""
        return ((key, value) for _, key, value in self._settings.values())

    @property
    def cid(self) -> int:
        return int(self.get("CID") or f"{NEVER_WRITTEN:x}", 16)

    @property
    def parent_cid(self) -> int:
        return int(self.get("parentCID") or f"{NO_PARENT:x}", 16)

    @property
    def has_parent(self) -> bool:
        return self.parent_cid != NO_PARENT

    @property
    def parent_hint(self) -> str:
        return self.get("parentFileNameHint") or ""

    @property
    def create_type(self) -> CreateType | None:
        """None for a word that is not known, which hurts nobody: the extents say what they are."""
        return SPELLINGS.get((self.get("createType") or "").lower())

    @property
    def capacity_sectors(self) -> int:
        return sum(extent.sectors for extent in self.extents)

    # changes

    def set(self, key: str, value: str, *, quoted: bool = True) -> None:
        """Change a value where it stands, or add a line where its kind of line ends."""
        text = f'"{value}"' if quoted else value
        is_ddb = key.lower().startswith("ddb.")
        found = self._settings.get(key.lower())
        if found is None:
            line = self._encode(f"{key} = {text}" if is_ddb else f"{key}={text}") + self._line_end()
            self.lines.insert(self._place(is_ddb), line)
        else:
            raw = self.lines[found[0]]
            body = raw.rstrip(b"\r\n")
            head = body[: body.index(b"=") + 1]
            blank = b" " if body[len(head) :].startswith((b" ", b"\t")) else b""
            self.lines[found[0]] = head + blank + self._encode(text) + raw[len(body) :]
        self._index()

    def remove(self, key: str) -> None:
        if found := self._settings.get(key.lower()):
            del self.lines[found[0]]
            self._index()

    def set_cid(self, cid: int) -> None:
        """The low part of ddb.longContentID goes with it."""
        self.set("CID", f"{cid:08x}", quoted=False)
        if (long := self.get("ddb.longContentID")) is not None and len(long) == 32:
            self.set("ddb.longContentID", long[:24] + f"{cid:08x}")

    def replace_extents(self, extents: Iterable[ExtentLine]) -> None:
        """Other extents in the place of the first one."""
        places = [number for number, raw in enumerate(self.lines) if ACCESS_WORD.match(raw.decode("latin-1"))]
        end, at = self._line_end(), places[0] if places else len(self.lines)
        kept = [raw for number, raw in enumerate(self.lines) if number not in set(places)]
        self.lines = kept[:at] + [self._encode(str(extent)) + end for extent in extents] + kept[at:]
        self._index()

    def encode(self) -> bytes:
        return b"".join(self.lines)

    def _encode(self, text: str) -> bytes:
        return text.encode(self.encoding, "surrogateescape")

    def _line_end(self) -> bytes:
        if self.lines and not self.lines[-1].endswith(b"\n"):
            self.lines[-1] += b"\n"
        return b"\r\n" if self.lines and self.lines[0].endswith(b"\r\n") else b"\n"

    def _place(self, is_ddb: bool) -> int:
        if is_ddb:
            return len(self.lines)
        headers = [number for number, key, _ in self._settings.values() if not key.lower().startswith("ddb.")]
        return max(headers) + 1 if headers else len(self.lines)


def split(data: bytes) -> list[bytes]:
    """Lines of a text up to its first NUL. Only LF ends one, for a lone CR may be part of a comment."""
    text = data.partition(b"\0")[0]
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def bare(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def build(
    extents: Iterable[ExtentLine],
    kind: CreateType,
    adapter: Adapter | None,
    *,
    cid: int = NEVER_WRITTEN,
    parent_cid: int = NO_PARENT,
    parent_hint: str = "",
    ddb: Iterable[tuple[str, str]] = (),
) -> Descriptor:
    """A new descriptor in the form that ESX writes. Without an adapter the disk data base holds `ddb` only."""
    extents = list(extents)
    head = ["# Disk DescriptorFile", "version=1"]
    names = "".join(extent.name for extent in extents) + parent_hint
    if not names.isascii():
        head.append('encoding="UTF-8"')
    head += [f"CID={cid:08x}", f"parentCID={parent_cid:08x}", f'createType="{kind}"']
    if parent_hint:
        head.append(f'parentFileNameHint="{parent_hint}"')
    base = []
    if adapter is not None:
        chs = geometry(adapter, sum(extent.sectors for extent in extents))
        base = [
            ("ddb.virtualHWVersion", "4"),
            ("ddb.geometry.cylinders", str(chs.cylinders)),
            ("ddb.geometry.heads", str(chs.heads)),
            ("ddb.geometry.sectors", str(chs.sectors)),
            ("ddb.adapterType", str(adapter)),
        ]
    tail = [f'{key} = "{value}"' for key, value in [*base, *ddb]]
    lines = [*head, "", "# Extent description", *map(str, extents), "", "# The Disk Data Base ", "#DDB", "", *tail]
    data = "\n".join(lines) + "\n"
    return Descriptor(split(data.encode("utf-8", "surrogateescape")), "new descriptor")
