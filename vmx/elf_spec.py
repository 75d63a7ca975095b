"""ELF32, little-endian: identification, and the tables of program headers, section headers and symbols; no behaviour.

Names are those of the specification.
Source: Tool Interface Standard, Executable and Linking Format 1.2, book I, chapters 1 and 2.
"""

import numpy as np
from construct import Bytes, Int8ul, Padding, Struct

ELFMAG = b"\x7fELF"
IDENT = Struct(
    "ei_mag" / Bytes(4),
    "ei_class" / Int8ul,
    "ei_data" / Int8ul,
    Padding(10),
)
assert IDENT.sizeof() == 16
ELFCLASS32, ELFCLASS64 = 1, 2
ELFDATA2LSB, ELFDATA2MSB = 1, 2
HEADER_BYTES = 52

PROGRAM_HEADER = np.dtype(
    [
        ("p_type", "<u4"), ("p_offset", "<u4"), ("p_vaddr", "<u4"), ("p_paddr", "<u4"),
        ("p_filesz", "<u4"), ("p_memsz", "<u4"), ("p_flags", "<u4"), ("p_align", "<u4"),
    ]
)  # fmt: skip
assert PROGRAM_HEADER.itemsize == 32
PT_LOAD = 1

SECTION_HEADER = np.dtype(
    [
        ("sh_name", "<u4"), ("sh_type", "<u4"), ("sh_flags", "<u4"), ("sh_addr", "<u4"), ("sh_offset", "<u4"),
        ("sh_size", "<u4"), ("sh_link", "<u4"), ("sh_info", "<u4"), ("sh_addralign", "<u4"), ("sh_entsize", "<u4"),
    ]
)  # fmt: skip
assert SECTION_HEADER.itemsize == 40
SHT_SYMTAB = 2

SYMBOL = np.dtype(
    [
        ("st_name", "<u4"), ("st_value", "<u4"), ("st_size", "<u4"),
        ("st_info", "u1"), ("st_other", "u1"), ("st_shndx", "<u2"),
    ]
)  # fmt: skip
assert SYMBOL.itemsize == 16
SHN_UNDEF = 0
STT_NOTYPE, STT_OBJECT, STT_FUNC = 0, 1, 2
SYMBOL_TYPE_MASK = 0xF
