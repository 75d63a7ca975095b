"""What an image is, and the words for what one can become: a VMDK by its kinds, a stream, or bare sectors.

The name says whether a file is a VMDK or bare sectors; what it holds only confirms that. A guest can write a
descriptor into sector 0 of a disk of bare sectors, to name files of the host: such a file is not believed unasked.
"""

from __future__ import annotations

import stat
from enum import StrEnum

from ringfence.errors import BadOption
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import Chain, open_disk, open_raw
from vmkernel.storage.create import Kind
from vmkernel.storage.errors import CorruptImage, Unsupported
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk.cowd_spec import GRAIN_SECTORS_MAX as REDO_GRAIN_MAX
from vmkernel.storage.vmdk.descriptor import Descriptor
from vmkernel.storage.vmdk.descriptor_spec import TEXT_BYTES_MAX
from vmkernel.storage.vmdk.link import REDO_SUFFIX, is_binary
from vmkernel.storage.vmdk.sparse_spec import GRAIN_SECTORS_MAX

SECTOR_BYTES = 512
VMDK_SUFFIX = ".vmdk"
HOSTED_GRAIN_MIN = 8  # sectors
TEXT_HEAD_BYTES = 4096
HOSTED_GRAIN_KINDS = frozenset({Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE})


class Format(StrEnum):
    """What a file is read as."""

    AUTO = "auto"
    VMDK = "vmdk"
    RAW = "raw"


class Plain(StrEnum):
    """What a disk can become beside the kinds that are made empty and written then."""

    RAW = "raw"
    STREAM = "streamOptimized"


Target = Kind | Plain
TARGETS: tuple[Target, ...] = (*Kind, *Plain)
# Other words for the same: vmkfstools' and those of descriptors.
ALIASES: dict[str, Target] = {
    "2gbsparse": Kind.TWO_GB_SPARSE, "2gbmaxextentsparse": Kind.TWO_GB_SPARSE, "2gbflat": Kind.TWO_GB_FLAT,
    "2gbmaxextentflat": Kind.TWO_GB_FLAT, "monosparse": Kind.MONOLITHIC_SPARSE, "sparse": Kind.MONOLITHIC_SPARSE,
    "monoflat": Kind.MONOLITHIC_FLAT, "flat": Kind.MONOLITHIC_FLAT, "stream": Plain.STREAM, "vmfs": Kind.ZEROED_THICK,
    "cowd": Kind.VMFS_SPARSE,
}  # fmt: skip


def target(word: str) -> Target:
    """Raises BadOption."""
    low = word.lower()
    for kind in TARGETS:
        if kind.value.lower() == low:
            return kind
    if low in ALIASES:
        return ALIASES[low]
    raise BadOption(f"kind of disk: expected one of {', '.join(TARGETS)}, found {word!r}")


def target_for(name: str) -> Target:
    """What is made where only the name of the output was given."""
    return Kind.MONOLITHIC_SPARSE if looks_like_vmdk(name) else Plain.RAW


def looks_like_vmdk(name: str) -> bool:
    return name.lower().endswith(VMDK_SUFFIX) or REDO_SUFFIX in name


def open_image(
    path: Place, form: Format = Format.AUTO, *, writable: bool = False, lock: bool = True, relaxed: bool = False,
    recover: bool = False,
) -> Chain:  # fmt: skip
    """A disk, whichever it is. Raises a BadInput that names file and byte, or HostRefused."""
    if judge_format(path, form) is Format.RAW:
        return open_raw(path, writable=writable, lock=lock)
    return open_disk(path, writable=writable, lock=lock, relaxed=relaxed, recover=recover)


def judge_format(path: Place, form: Format) -> Format:
    """Raises Unsupported where name and contents disagree, and nobody has said which is right."""
    if form is not Format.AUTO:
        return form
    named = looks_like_vmdk(path.name)
    held = holds_vmdk(path)
    if named == held:
        return Format.VMDK if held else Format.RAW
    expected = "a VMDK, as its name says" if named else "bare sectors, as its name says"
    found = "something else: say which it is with --format" if named else "a VMDK: say which it is with --format"
    raise Unsupported(str(path), "format", expected, found)


def holds_vmdk(path: Place) -> bool:
    """Does it begin as one? A device never does: what its owner wrote there is not believed."""
    with BlockFile.open(path, lock=False) as file:
        head = file.some_at(0, 8)
        if is_binary(head):
            return not is_device(path)
        text = file.some_at(0, TEXT_BYTES_MAX + 1) if file.size <= TEXT_BYTES_MAX else b""
    try:
        Descriptor.parse(text.partition(b"\0")[0], path)
    except CorruptImage as error:
        return b"version" in text[:TEXT_HEAD_BYTES].lower() and not error.what.startswith("version of the")
    return True


def is_device(path: Place) -> bool:
    return stat.S_ISBLK(path.stat().st_mode)


def grain_sectors(kind: Target, size_bytes: int | None) -> int | None:
    """A grain's size as the format can have it. Raises BadOption."""
    if size_bytes is None:
        return None
    sectors, rest = divmod(size_bytes, SECTOR_BYTES)
    if kind in HOSTED_GRAIN_KINDS:
        good = HOSTED_GRAIN_MIN <= sectors <= GRAIN_SECTORS_MAX and not sectors & (sectors - 1)
        expected = f"a power of two from {HOSTED_GRAIN_MIN * SECTOR_BYTES} to {GRAIN_SECTORS_MAX * SECTOR_BYTES} bytes"
    elif kind is Kind.VMFS_SPARSE:
        good = 0 < sectors <= REDO_GRAIN_MAX
        expected = f"a multiple of {SECTOR_BYTES} bytes up to {REDO_GRAIN_MAX * SECTOR_BYTES}"
    else:
        raise BadOption(f"grain: expected with {', '.join(sorted(HOSTED_GRAIN_KINDS))} and {Kind.VMFS_SPARSE} only")
    if rest or not good:
        raise BadOption(f"grain: expected {expected}, found {size_bytes}")
    return sectors
