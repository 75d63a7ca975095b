"""The Linux/x86 boot protocol: setup header, zero page, and the 32-bit entry; no behaviour.

The setup header is read from the kernel file and laid into the zero page, so one ctypes structure serves both. Names
are those of the kernel's documentation.
Source: Linux, Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header", "32-bit Boot Protocol") and
Documentation/arch/x86/zero-page.rst; include/uapi/linux/screen_info.h.
"""

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag

SECTOR = 512
PARAGRAPH = 16
BOOT_FLAG = 0xAA55
BOOT_FLAG_OFFSET = 0x1FE
HEADER_MAGIC = int.from_bytes(b"HdrS", "little")
HEADER_OFFSET = 0x1F1
HEADER_MAGIC_OFFSET = 0x202
SETUP_SECTS_DEFAULT = 4
LOADER_UNKNOWN = 0xFF
LOAD_HIGH = 0x100000


class Protocol(IntEnum):
    """The version that brought something this loader asks for: major in the high byte, minor in the low one."""

    CMD_LINE_PTR = 0x0202
    INITRD_ADDR_MAX = 0x0203
    SYSSIZE_32 = 0x0204
    RELOCATABLE = 0x0205
    CMDLINE_SIZE = 0x0206
    PREF_ADDRESS = 0x020A
    XLOADFLAGS = 0x020C
    CURRENT = 0x020F


# What holds for kernels older than the field.
INITRD_ADDR_MAX_DEFAULT = 0x37FFFFFF
CMDLINE_SIZE_DEFAULT = 255


class LoadFlag(IntFlag):
    """setup_header.loadflags."""

    LOADED_HIGH = 1 << 0
    KASLR_FLAG = 1 << 1
    QUIET_FLAG = 1 << 5
    KEEP_SEGMENTS = 1 << 6
    CAN_USE_HEAP = 1 << 7


class XLoadFlag(IntFlag):
    """setup_header.xloadflags."""

    KERNEL_64 = 1 << 0
    CAN_BE_LOADED_ABOVE_4G = 1 << 1


class SetupHeader(LittleEndianStructure):
    """From offset 1F1h, in the file and in the zero page. Later versions define more of it than earlier ones."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [
        ("setup_sects", c_uint8), ("root_flags", c_uint16), ("syssize", c_uint32), ("ram_size", c_uint16),
        ("vid_mode", c_uint16), ("root_dev", c_uint16), ("boot_flag", c_uint16), ("jump_opcode", c_uint8),
        ("jump_length", c_uint8), ("header", c_uint32), ("version", c_uint16), ("realmode_swtch", c_uint32),
        ("start_sys_seg", c_uint16), ("kernel_version", c_uint16), ("type_of_loader", c_uint8), ("loadflags", c_uint8),
        ("setup_move_size", c_uint16), ("code32_start", c_uint32), ("ramdisk_image", c_uint32),
        ("ramdisk_size", c_uint32), ("bootsect_kludge", c_uint32), ("heap_end_ptr", c_uint16),
        ("ext_loader_ver", c_uint8), ("ext_loader_type", c_uint8), ("cmd_line_ptr", c_uint32),
        ("initrd_addr_max", c_uint32), ("kernel_alignment", c_uint32), ("relocatable_kernel", c_uint8),
        ("min_alignment", c_uint8), ("xloadflags", c_uint16), ("cmdline_size", c_uint32),
        ("hardware_subarch", c_uint32), ("hardware_subarch_data", c_uint64), ("payload_offset", c_uint32),
        ("payload_length", c_uint32), ("setup_data", c_uint64), ("pref_address", c_uint64), ("init_size", c_uint32),
        ("handover_offset", c_uint32), ("kernel_info_offset", c_uint32),
    ]  # fmt: skip


assert sizeof(SetupHeader) == 0x26C - HEADER_OFFSET
assert SetupHeader.header.offset == HEADER_MAGIC_OFFSET - HEADER_OFFSET
assert SetupHeader.boot_flag.offset == BOOT_FLAG_OFFSET - HEADER_OFFSET

# The header ends this far behind the jump's end, that is at 202h plus jump_length.
JUMP_END = 0x202


class ScreenInfo(LittleEndianStructure):
    """What the real-mode part would have asked the video BIOS: mode, size, cursor."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [
        ("orig_x", c_uint8), ("orig_y", c_uint8), ("ext_mem_k", c_uint16), ("orig_video_page", c_uint16),
        ("orig_video_mode", c_uint8), ("orig_video_cols", c_uint8), ("flags", c_uint8), ("unused2", c_uint8),
        ("orig_video_ega_bx", c_uint16), ("unused3", c_uint16), ("orig_video_lines", c_uint8),
        ("orig_video_is_vga", c_uint8), ("orig_video_points", c_uint16), ("linear_framebuffer", c_uint8 * 46),
    ]  # fmt: skip


assert sizeof(ScreenInfo) == 0x40

TEXT_MODE_3 = ScreenInfo(
    orig_video_mode=3, orig_video_cols=80, orig_video_ega_bx=3, orig_video_lines=25, orig_video_is_vga=1,
    orig_video_points=16,
)  # fmt: skip
EXT_MEM_K_MAX = 0xFFFF


class E820Entry(LittleEndianStructure):
    """boot_e820_entry."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("addr", c_uint64), ("size", c_uint64), ("type", c_uint32)]


assert sizeof(E820Entry) == 20
E820_MAX_ENTRIES = 128


class BootParams(LittleEndianStructure):
    """The zero page. What stands in no field here is only for other ways to boot, and stays 0."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [
        ("screen_info", ScreenInfo), ("other_040", c_uint8 * 0x30), ("acpi_rsdp_addr", c_uint64),
        ("other_078", c_uint8 * 0x168), ("alt_mem_k", c_uint32), ("scratch", c_uint32), ("e820_entries", c_uint8),
        ("eddbuf_entries", c_uint8), ("edd_mbr_sig_buf_entries", c_uint8), ("kbd_status", c_uint8),
        ("secure_boot", c_uint8), ("other_1ed", c_uint8 * 2), ("sentinel", c_uint8), ("other_1f0", c_uint8),
        ("hdr", SetupHeader), ("other_26c", c_uint8 * (0x2D0 - 0x26C)), ("e820_table", E820Entry * E820_MAX_ENTRIES),
        ("other_cd0", c_uint8 * (0x1000 - 0xCD0)),
    ]  # fmt: skip


assert sizeof(BootParams) == 0x1000
assert BootParams.acpi_rsdp_addr.offset == 0x70
assert BootParams.alt_mem_k.offset == 0x1E0
assert BootParams.e820_entries.offset == 0x1E8
assert BootParams.hdr.offset == HEADER_OFFSET
assert BootParams.e820_table.offset == 0x2D0

# "__BOOT_CS must have execute/read permission, and __BOOT_DS must have read/write permission", both flat 4 GiB.
BOOT_CS, BOOT_DS = 0x10, 0x18
BOOT_GDT = (0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
