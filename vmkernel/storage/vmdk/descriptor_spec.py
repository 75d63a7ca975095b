"""The words of a VMDK descriptor: keys, access, types of extents and of disks; no behaviour.

Words are matched in any case and written as they stand here. Lengths are sectors of 512 bytes.
Source: VMware Virtual Disk Format 1.1 and 5.0, "The Descriptor File"; libvmdk, VMWare Virtual Disk Format (VMDK).
"""

from enum import StrEnum

TEXT_BYTES_MAX = 1 << 20
EXTENTS_MAX = 8192
VERSIONS = ("1", "2", "3")
NO_PARENT = 0xFFFFFFFF
NEVER_WRITTEN = 0xFFFFFFFE
DEFAULT_ENCODING = "utf-8"
# Names that descriptors give, and Python's for them. All keep ASCII bytes as they are, line ends included.
ENCODINGS = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8",
    "gbk": "gbk", "gb2312": "gbk", "gb18030": "gb18030", "big5": "big5", "shift_jis": "cp932", "euc-kr": "euc_kr",
    "euc-jp": "euc_jp", "koi8-r": "koi8_r",
    **{f"windows-{page}": f"cp{page}" for page in (874, 932, 936, 949, 950, *range(1250, 1259))},
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (*range(1, 12), 13, 14, 15, 16)},
}  # fmt: skip


class Access(StrEnum):
    """What an extent is open for."""

    RW = "RW"
    RDONLY = "RDONLY"
    NOACCESS = "NOACCESS"


class ExtentType(StrEnum):
    """How an extent's sectors are kept."""

    FLAT = "FLAT"
    SPARSE = "SPARSE"
    ZERO = "ZERO"
    VMFS = "VMFS"
    VMFSSPARSE = "VMFSSPARSE"
    VMFSRDM = "VMFSRDM"
    VMFSRAW = "VMFSRAW"
    SESPARSE = "SESPARSE"


class CreateType(StrEnum):
    """How a disk was made."""

    MONOLITHIC_SPARSE = "monolithicSparse"
    MONOLITHIC_FLAT = "monolithicFlat"
    TWO_GB_SPARSE = "twoGbMaxExtentSparse"
    TWO_GB_FLAT = "twoGbMaxExtentFlat"
    STREAM_OPTIMIZED = "streamOptimized"
    CUSTOM = "custom"
    FULL_DEVICE = "fullDevice"
    PARTITIONED_DEVICE = "partitionedDevice"
    VMFS = "vmfs"
    VMFS_SPARSE = "vmfsSparse"
    SE_SPARSE = "seSparse"
    VMFS_RDM = "vmfsRawDeviceMap"
    VMFS_RDMP = "vmfsPassthroughRawDeviceMap"
    VMFS_RAW = "vmfsRaw"


SPELLINGS = {
    **{str(kind).lower(): kind for kind in CreateType},
    "2gbmaxextentsparse": CreateType.TWO_GB_SPARSE, "2gbmaxextentflat": CreateType.TWO_GB_FLAT,
    "vmfspreallocated": CreateType.VMFS, "vmfseagerzeroedthick": CreateType.VMFS, "vmfsthick": CreateType.VMFS,
    "vmfsthin": CreateType.VMFS, "vmfssesparse": CreateType.SE_SPARSE, "vmfsrdm": CreateType.VMFS_RDM,
    "vmfsrdmp": CreateType.VMFS_RDMP,
}  # fmt: skip

# Extents whose file holds nothing but the sectors.
BARE = frozenset({ExtentType.FLAT, ExtentType.VMFS, ExtentType.VMFSRDM, ExtentType.VMFSRAW})


class Adapter(StrEnum):
    """The controller that a geometry is made for."""

    IDE = "ide"
    BUSLOGIC = "buslogic"
    LSILOGIC = "lsilogic"
    LEGACY_ESX = "legacyESX"


IDE_HEADS, IDE_SECTORS, IDE_CYLINDERS_MAX = 16, 63, 16383
# For SCSI: capacities below, heads, sectors a track.
SCSI_GEOMETRY = ((1 << 21, 64, 32), (1 << 22, 128, 32), (1 << 63, 255, 63))
SCSI_CYLINDERS_MAX = 65535
