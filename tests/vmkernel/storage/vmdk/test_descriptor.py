"""The grammar of descriptors: what is read, what is refused, what a rewrite leaves alone."""

from __future__ import annotations

import contextlib
import time

import pytest

from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine, build
from vmkernel.storage.vmdk.descriptor_spec import Access, Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.geometry import Geometry, geometry

BASE = b"""# Disk DescriptorFile
version=1
CID=0172e8a4
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 20971520 VMFS "vm-flat.vmdk"

# The Disk Data Base 
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "1305"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
ddb.thinProvisioned = "1"
"""  # noqa: W291
ODD = (
    b'# made by hand\r\n\r\n  Version = 1 \r\nencoding="GBK"\r\ncid = 00000AbC\r\nPARENTCID=ffffffff\r\n'
    b'createtype="MonolithicFlat"\r\nunknownKey=whatever\r\nrw 100 flat "a \xce\xd2".vmdk" 7  \r\n\r\nddb.odd   =   "x"'
)


def parse(data: bytes) -> Descriptor:
    return Descriptor.parse(data, "d.vmdk")


def test_the_text_that_esx_writes_is_built() -> None:
    extent = ExtentLine(Access.RW, 20971520, ExtentType.VMFS, "vm-flat.vmdk")
    made = build([extent], CreateType.VMFS, Adapter.LSILOGIC, cid=0x0172E8A4, ddb=[("ddb.thinProvisioned", "1")])
    assert made.encode() == BASE


def test_values_are_found_whatever_their_case() -> None:
    odd = parse(ODD)
    assert (odd.get("VERSION"), odd.cid, odd.has_parent) == ("1", 0xABC, False)
    assert odd.create_type == CreateType.MONOLITHIC_FLAT
    assert odd.extents == (ExtentLine(Access.RW, 100, ExtentType.FLAT, 'a 我".vmdk', 7),)
    assert odd.ddb() == {"ddb.odd": "x"}


@pytest.mark.parametrize("text", [BASE, ODD, ODD + b"\r\n", BASE.replace(b"\n", b"\r\n")])
def test_a_rewrite_changes_only_what_was_changed(text: bytes) -> None:
    descriptor = parse(text)
    assert descriptor.encode() == text
    descriptor.set_cid(0x12345678)
    old = next(line for line in text.splitlines() if line.lower().startswith(b"cid"))
    new = b"cid = 12345678" if old.startswith(b"cid") else b"CID=12345678"
    assert descriptor.encode() == text.replace(old, new)


def test_the_long_content_id_goes_with_the_cid() -> None:
    descriptor = parse(BASE + b'ddb.longContentID = "00112233445566778899aabb0172e8a4"\n')
    descriptor.set_cid(0xCAFE)
    assert descriptor.get("ddb.longContentID") == "00112233445566778899aabb0000cafe"
    assert parse(descriptor.encode()).cid == 0xCAFE


def test_new_values_go_where_their_kind_of_line_ends() -> None:
    descriptor = parse(BASE)
    descriptor.set("parentFileNameHint", "p.vmdk")
    descriptor.set("ddb.comment", "c")
    lines = descriptor.encode().split(b"\n")
    assert lines[5] == b'parentFileNameHint="p.vmdk"'
    assert lines[-2] == b'ddb.comment = "c"'
    descriptor.remove("ddb.comment")
    descriptor.remove("parentFileNameHint")
    assert descriptor.encode() == BASE


def test_extents_are_replaced_in_their_place() -> None:
    descriptor = parse(BASE)
    descriptor.replace_extents(
        [ExtentLine(Access.RW, 5, ExtentType.FLAT, "a", 3), ExtentLine(Access.RW, 5, ExtentType.ZERO)]
    )
    assert descriptor.encode() == BASE.replace(b'RW 20971520 VMFS "vm-flat.vmdk"', b'RW 5 FLAT "a" 3\nRW 5 ZERO')


def test_the_text_ends_at_the_first_nul() -> None:
    assert parse(BASE + b"\0RW 5 ZERO\n").encode() == BASE


def test_a_parent_cid_is_not_taken_for_a_cid() -> None:
    assert parse(b'version=1\nparentCID=1\nddb.longContentID = "5"\nCID=2\nRW 1 ZERO\n').cid == 2


@pytest.mark.parametrize(
    ("line", "extent"),
    [
        (b"RW 63 ZERO", ExtentLine(Access.RW, 63, ExtentType.ZERO)),
        (b'NOACCESS 0 ZERO ""', None),
        (b'RDONLY 10 SPARSE "a b.vmdk"', ExtentLine(Access.RDONLY, 10, ExtentType.SPARSE, "a b.vmdk")),
        (b'RW 10 VMFS "f" 0', ExtentLine(Access.RW, 10, ExtentType.VMFS, "f")),
        (b'RW 10 FLAT "C:\\f" 63 partUUID dev', ExtentLine(Access.RW, 10, ExtentType.FLAT, r"C:\f", 63)),
        (b'\tRW\t10\tFLAT\t"f"\t5\t', ExtentLine(Access.RW, 10, ExtentType.FLAT, "f", 5)),
    ],
)  # fmt: skip
def test_extents_are_read_in_every_form(line: bytes, extent: ExtentLine | None) -> None:
    found = parse(b"version=1\n" + line + b"\n").extents
    assert found == ((extent,) if extent else (ExtentLine(Access.NOACCESS, 0, ExtentType.ZERO),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "version of the descriptor: expected one of 1, 2, 3, found none"),
        (b"version=4\n", "found '4'"),
        (b"version=1\nCID=xyz\n", "byte 0: CID: expected up to 8 hexadecimal digits, found 'xyz'"),
        (b"version=1\nRW 10 FLOPPY \"f\"\n", "byte 10: type of extent: expected .*found FLOPPY"),
        (b"version=1\nRW 10 FLAT f\n", "byte 10: extent"),
        (b"version=1\nRW 0 FLAT \"f\"\n", "byte 10: extent: expected 1 to"),
        (b"version=1\nRW 99999999999999999999999 FLAT \"f\"\n", "expected 1 to"),
        (b"version=1\nRW -5 FLAT \"f\"\n", "byte 10: extent"),
        (b"version=1\nRW 5 FLAT\n", "name of a file"),
        (b"version=1\nencoding=\"rot13\"\n", "encoding: expected one that a descriptor can have, found 'rot13'"),
        (b"version=1\n" + b"RW 1 ZERO\n" * 9000, "at most 8192"),
        (b"#" * (2 << 20), "at most 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_descriptor_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(CorruptImage, match=said):
        parse(text)


@pytest.mark.parametrize(
    "line", [b"a=" + b" " * 200_000 + b"x", b"encoding=" + b" " * 200_000 + b'"x', b'RW 1 FLAT "' + b'" 1 ' * 50_000,
             b"RW" + b" " * 200_000, b'RW 1 FLAT "f" 1' + b" " * 200_000 + b"\\", b" " * 300_000 + b"="]
)  # fmt: skip
def test_no_line_takes_long(line: bytes) -> None:
    started = time.process_time()
    with_it = b"version=1\n" + line + b"\n"
    with contextlib.suppress(CorruptImage):
        assert parse(with_it).encode() == with_it
    assert time.process_time() - started < 10, "the square of its length"


@pytest.mark.parametrize(
    ("adapter", "sectors", "expected"),
    [
        (Adapter.LSILOGIC, 4096, (2, 64, 32)),
        (Adapter.LSILOGIC, 61440, (30, 64, 32)),
        (Adapter.BUSLOGIC, 2097152, (512, 128, 32)),
        (Adapter.LSILOGIC, 125829120, (7832, 255, 63)),
        (Adapter.LSILOGIC, 20971520, (1305, 255, 63)),
        (Adapter.LSILOGIC, (1 << 32) - 1, (65535, 255, 63)),
        (Adapter.IDE, 20480, (20, 16, 63)),
        (Adapter.LEGACY_ESX, 1 << 30, (16383, 16, 63)),
    ],
)
def test_geometries_are_those_of_published_disks(
    adapter: Adapter, sectors: int, expected: tuple[int, int, int]
) -> None:
    assert geometry(adapter, sectors) == Geometry(*expected)
