"""Takes the decompressor out of a bzImage: the same kernel, ready in place, in a file that any boot loader accepts.

    setup sectors                       the file's own, with the header fields below patched
    protected-mode part, for 100000h    64-byte mover, then the flat copy of the kernel's segments

The mover copies the segments to their physical addresses and enters the kernel as the decompressor would have: ESI =
zero page, EBX = 0, flat segments, paging off. It copies from the top down, because the ranges overlap. The kernel runs
at its linked address only, so relocatable_kernel is cleared; pref_address and init_size tell what the mover covers.
Source: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; TIS ELF 1.2.
"""

from __future__ import annotations

import io
import lzma
import struct
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile

SECTOR = 512
PARAGRAPH = 16
LOADED_AT = 0x100000
MOVER_BYTES = 64
PT_LOAD = "PT_LOAD"

SETUP_SECTS = 0x1F1
SYSSIZE = 0x1F4
RELOCATABLE_KERNEL = 0x234
PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x248, 0x24C
PREF_ADDRESS, INIT_SIZE = 0x258, 0x260
INIT_SLACK = 0x10000


@dataclass(frozen=True, slots=True)
class FlatKernel:
    """`content` belongs at `base`, guest physical; zeroes follow up to `top`. It is entered at `entry`."""

    base: int
    top: int
    entry: int
    content: bytes


def setup_bytes(image: bytes) -> int:
    return ((image[SETUP_SECTS] or 4) + 1) * SECTOR


def vmlinux(image: bytes) -> bytes:
    """The ELF file in a bzImage with an XZ payload."""
    start = setup_bytes(image) + struct.unpack_from("<I", image, PAYLOAD_OFFSET)[0]
    payload = image[start : start + struct.unpack_from("<I", image, PAYLOAD_LENGTH)[0]]
    # The last four bytes are the unpacked length, behind the XZ stream.
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)


def flatten(elf_file: bytes) -> FlatKernel:
    """Its segments at their physical addresses."""
    elf = ELFFile(io.BytesIO(elf_file))
    segments = [segment for segment in elf.iter_segments() if segment["p_type"] == PT_LOAD]
    base = min(segment["p_paddr"] for segment in segments)
    end = max(segment["p_paddr"] + segment["p_filesz"] for segment in segments)
    content = bytearray(end - base)
    for segment in segments:
        start = segment["p_paddr"] - base
        content[start : start + segment["p_filesz"]] = segment.data()
    top = max(segment["p_paddr"] + segment["p_memsz"] for segment in segments)
    return FlatKernel(base, top, elf["e_entry"], bytes(content))


def mover(source: int, target: int, length: int, entry: int) -> bytes:
    """32-bit code that moves `length` bytes up and enters the kernel."""
    code = b"".join((
        b"\xfa\xfd",                                            # cli; std
        b"\x89\xf5",                                            # mov ebp, esi
        b"\xbe", struct.pack("<I", source + length - 4),        # mov esi, last source dword
        b"\xbf", struct.pack("<I", target + length - 4),        # mov edi, last target dword
        b"\xb9", struct.pack("<I", length // 4),                # mov ecx, dwords
        b"\xf3\xa5\xfc",                                        # rep movsd; cld
        b"\x89\xee\x31\xdb",                                    # mov esi, ebp; xor ebx, ebx
        b"\xb8", struct.pack("<I", entry), b"\xff\xe0",         # mov eax, entry; jmp eax
    ))  # fmt: skip
    return code.ljust(MOVER_BYTES, b"\x90")


def raw_kernel(image: bytes) -> bytes:
    """A bzImage without decompressor that boots the kernel in `image`, a bzImage with an XZ payload."""
    kernel = flatten(vmlinux(image))
    content = kernel.content + bytes(-len(kernel.content) % PARAGRAPH)
    protected = mover(LOADED_AT + MOVER_BYTES, kernel.base, len(content), kernel.entry) + content
    setup = bytearray(image[: setup_bytes(image)])
    struct.pack_into("<I", setup, SYSSIZE, len(protected) // PARAGRAPH)
    setup[RELOCATABLE_KERNEL] = 0
    struct.pack_into("<II", setup, PAYLOAD_OFFSET, 0, 0)
    struct.pack_into("<QI", setup, PREF_ADDRESS, LOADED_AT, kernel.top - LOADED_AT + INIT_SLACK)
    return bytes(setup) + protected
