r"""The grammar of esx.conf: one value a line, under a path.

    /net/vswitch/child[0000]/name = "vSwitch0"

Lines are in the order of their paths. Comments (#) at the beginning stay; blank lines do not. Within a value \ and "
have a \ before them.
Source: VMware ESX Server 3, /etc/vmware/esx.conf. UNKNOWN: how it writes a quotation mark in a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ringfence.errors import BadInput

LINE = re.compile(r'\s*(?P<key>(?:/[^\s/="\\]+)+)\s*=\s*"(?P<value>(?:[^"\\\x00-\x1f\x7f]|\\["\\])*)"\s*')
ESCAPED = re.compile(r'\\(["\\])')
SPECIAL = re.compile(r'(["\\])')
FILE_BYTES_MAX = 4 << 20


@dataclass(slots=True)
class EsxConf:
    """The values by path, and the lines that they were read from."""

    path: str
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    heading: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, path: str) -> EsxConf:
        """Raises BadInput with the line."""
        if len(data) > FILE_BYTES_MAX:
            raise BadInput(path, "file", f"at most {FILE_BYTES_MAX} bytes", str(len(data)))
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            at = 1 + data.count(b"\n", 0, error.start)
            raise BadInput(f"{path}:{at}", "line", "UTF-8", data[error.start : error.end].hex(" ")) from None
        conf = cls(path)
        heading = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            if line.lstrip().startswith("#"):
                if not conf.values:
                    heading.append(line)
                continue
            conf._take(line, number)
        conf.heading = tuple(heading)
        return conf

    def _take(self, line: str, number: int) -> None:
        found = LINE.fullmatch(line)
        if found is None:
            raise BadInput(f"{self.path}:{number}", "line", '/path/of/key = "value"', ascii(line[:80]))
        key = found["key"]
        if key in self.values:
            raise BadInput(f"{self.path}:{number}", key, "once", f"again, after line {self.lines[key]}")
        self.values[key], self.lines[key] = ESCAPED.sub(r"\1", found["value"]), number

    def where(self, key: str) -> str:
        """For a complaint: the file, and the line if the key has one."""
        return f"{self.path}:{self.lines[key]}" if key in self.lines else self.path

    def replaced(self, prefixes: tuple[str, ...], values: Mapping[str, str]) -> EsxConf:
        """Another in which `values` are all there is under `prefixes`."""
        kept = {key: value for key, value in self.values.items() if not key.startswith(prefixes)}
        return EsxConf(self.path, {**kept, **values}, {}, self.heading)

    def to_bytes(self) -> bytes:
        rows = [f'{key} = "{escaped(value)}"' for key, value in sorted(self.values.items())]
        return "".join(f"{line}\n" for line in (*self.heading, *rows)).encode()


def escaped(value: str) -> str:
    return SPECIAL.sub(r"\\\1", value)
