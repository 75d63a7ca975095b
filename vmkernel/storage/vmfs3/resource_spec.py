"""Resource files (.fbb.sf, .fdc.sf, .pbc.sf, .sbc.sf): header and cluster headers; no behaviour.

    0               header
    group_offset    cluster group 0: its clusters' headers (1 KB each), then the resources of all its clusters
    + group_size    cluster group 1, and so on. File blocks have no bytes here: they are the volume's own blocks

Offsets are of the resource file. Little-endian, packed.
Source: vmfs-tools, libvmfs/vmfs_bitmap.h; dissect.vmfs, c_vmfs.py, resource.py.
"""

from construct import Bytes, Int32ul, Struct
from numpy import dtype

from vmkernel.storage.vmfs3.volume_spec import LOCK

HEADER = Struct(
    "resources_per_cluster" / Int32ul,
    "clusters_per_group" / Int32ul,
    "group_offset" / Int32ul,
    "resource_size" / Int32ul,
    "group_size" / Int32ul,
    "total" / Int32ul,
    "groups" / Int32ul,
    "reserved_1c" / Bytes(484),
)
assert HEADER.sizeof() == 512
HEADER_BYTES = 28  # that mean something

GROUP_OFFSET = 0x10000
CLUSTER_HEADER_BYTES = 1024
CLUSTER_DATA_AT = 512  # of a cluster header: what lies behind the lock
BITMAP_BYTES = 64
RESOURCES_MAX = BITMAP_BYTES * 8  # of a cluster
FB_TOTAL_MAX = 1 << 26
CLUSTERS_PER_GROUP, CLUSTERS_PER_GROUP_VMFS5 = 32, 64
FB_PER_CLUSTER = 200
FD_PER_CLUSTER, FD_PER_CLUSTER_SMALL = 200, 32
SB_PER_CLUSTER, PB_PER_CLUSTER = 16, 16
FD_TOTAL, PB_TOTAL, SB_TOTAL = 30720, 61440, 3968  # of a volume of 2 GB and more
SYSTEM_BLOCKS_MAX = 256  # a resource file has file blocks directly: no more than fit into its descriptor

CLUSTER = dtype([
    ("lock", LOCK),
    ("number", "<u4"),  # counts through all groups
    ("total", "<u4"),
    ("free", "<u4"),
    ("next_free", "<u4"),  # where to search next: a cursor
    ("bitmap", "u1", BITMAP_BYTES),  # 1 = free, LSB first
    ("type_data", "<u4"),  # FDC: the last generation handed out
    ("reserved_254", "V12"),
    ("priority", "<u4"),
    ("reserved_264", "V412"),
])  # fmt: skip
assert CLUSTER.itemsize == CLUSTER_HEADER_BYTES
