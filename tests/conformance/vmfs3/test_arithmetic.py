"""Addresses, and where resources lie: the examples that are known of real volumes."""

from __future__ import annotations

import numpy as np
import pytest

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import AddressType, SystemFile
from vmkernel.storage.vmfs3.resources import Geometry

MB = 1 << 20
KNOWN: list[tuple[int, AddressType, tuple[int, int] | int]] = [
    (0x00000141, AddressType.FILE_BLOCK, 5), (0x000064C1, AddressType.FILE_BLOCK, 403),
    (0x000096E1, AddressType.FILE_BLOCK, 603), (0xFFFFFFC1, AddressType.FILE_BLOCK, 67108863),
    (0x00000782, AddressType.SUB_BLOCK, (30, 0)), (0x30000782, AddressType.SUB_BLOCK, (30, 3)),
    (0x00000003, AddressType.POINTER_BLOCK, (0, 0)), (0xFFFFFFC3, AddressType.POINTER_BLOCK, (0x3FFFFF, 15)),
    (0x00000004, AddressType.FILE_DESCRIPTOR, (0, 0)), (0x00400004, AddressType.FILE_DESCRIPTOR, (0, 1)),
    (0x01400004, AddressType.FILE_DESCRIPTOR, (0, 5)), (0x01C00184, AddressType.FILE_DESCRIPTOR, (6, 7)),
    (0xFFFFFFC4, AddressType.FILE_DESCRIPTOR, (0xFFFF, 0x3FF)),
]  # fmt: skip
TEXTS = {
    0x00000000: "none", 0x000064C1: "FB 403", 0x000096E1: "FB 603 TBZ", 0x000096D1: "FB 603 COW",
    0x30000782: "SB 30/3", 0x01C00184: "FD 6/7", 0x00000003: "PB 0/0", 0x00000023: "PB 0/0 COW",
    0x00000007: "0x00000007, which is no address", 0x00000008: "0x00000008, which is no address",
}  # fmt: skip


@pytest.mark.parametrize(("address", "kind", "place"), KNOWN)
def test_an_address_is_taken_apart_and_put_together(
    address: int, kind: AddressType, place: tuple[int, int] | int
) -> None:
    assert addresses.kind(address) == kind
    if isinstance(place, int):
        assert addresses.block_number(address) == place
        assert addresses.file_block(place, tbz=addresses.is_tbz(address)) == address
        return
    makers = {
        AddressType.SUB_BLOCK: addresses.sub_block, AddressType.POINTER_BLOCK: addresses.pointer_block,
        AddressType.FILE_DESCRIPTOR: addresses.descriptor,
    }  # fmt: skip
    assert addresses.place(address) == place
    assert makers[kind](*place) == address
    clusters, resources = addresses.places(np.array([address, address], np.uint32), kind)
    assert (clusters.tolist(), resources.tolist()) == ([place[0]] * 2, [place[1]] * 2)


def test_system_files_have_their_addresses() -> None:
    for number, name in enumerate(("ROOT", "FBB", "FDC", "PBC", "SBC", "VH")):
        assert addresses.place(SystemFile[name]) == (0, number)


@pytest.mark.parametrize("address", TEXTS)
def test_addresses_read_well(address: int) -> None:
    assert addresses.describe(address) == TEXTS[address]


def test_dense_addresses_have_two_more_bits_of_resource() -> None:
    """VMFS-5: sub-blocks of 8 KB, 64 in a cluster."""
    assert addresses.place(0x3000079A, dense=True) == (30, 51)
    assert addresses.place(0x3000079A) == (30, 3)
    assert addresses.places(np.array([0x3000079A], np.uint32), AddressType.SUB_BLOCK, dense=True)[1][0] == 51
    assert addresses.place(0x3000079B, dense=True) == (30, 3)


SMALL_FDC = Geometry(32, 32, 0x10000, 2048, 2129920, 256, 1)
SMALL_SBC = Geometry(16, 32, 0x10000, 65536, 33587200, 1024, 2)
FDC = Geometry(200, 32, 0x10000, 2048, 13139968, 30720, 5)
PBC = Geometry(16, 32, 0x10000, 4096, 2129920, 61440, 120)
SBC = Geometry(16, 32, 0x10000, 65536, 33587200, 3968, 8)
FBB = Geometry(200, 32, 0x10000, 0, 32768, 1024, 1)


@pytest.mark.parametrize(("geometry", "cluster", "resource", "offset"), [
    (SMALL_FDC, 6, 7, 505856), (SMALL_SBC, 30, 3, 31752192), (FDC, 13, 41, 5507072),
    (SBC, 32, 0, 0x10000 + 33587200 + 32 * 1024), (PBC, 0, 0, 0x10000 + 32 * 1024),
])  # fmt: skip
def test_a_resource_lies_where_real_volumes_have_it(
    geometry: Geometry, cluster: int, resource: int, offset: int
) -> None:
    assert geometry.items_at(cluster, resource) == offset


def test_descriptors_lie_where_vmkfstools_shows_them() -> None:
    """`<4, 13, 41>` at byte 13895680 with blocks of 2 MB: two before .fdc.sf, the root and .fbb.sf within it."""
    assert 4 * 2 * MB + FDC.items_at(13, 41) == 13895680
    assert 4 * MB + 2 * MB + FDC.items_at(309, 2) == 133255168
    assert 4 * MB + 12 * MB + FDC.items_at(360, 53) == 164800512


@pytest.mark.parametrize(("geometry", "clusters", "last"), [
    (FBB, 6, 24), (SMALL_FDC, 8, 32), (SMALL_SBC, 64, 16), (FDC, 154, 120), (PBC, 3840, 16), (SBC, 248, 16),
])  # fmt: skip
def test_the_last_cluster_has_what_is_left(geometry: Geometry, clusters: int, last: int) -> None:
    assert geometry.clusters == clusters
    assert geometry.cluster_total(clusters - 1) == last
    assert geometry.cluster_total(0) == min(geometry.per_cluster, geometry.total)


def test_headers_of_clusters_stand_before_the_resources_of_their_group() -> None:
    assert SMALL_FDC.header_at(6) == 0x11800
    assert SBC.header_at(0) == 0x10000
    assert SBC.header_at(31) == 0x10000 + 31 * 1024
    assert SBC.header_at(32) == 0x10000 + 33587200
    assert FBB.header_at(5) == 0x10000 + 5 * 1024


def test_arrays_are_located_like_numbers() -> None:
    clusters, resources = np.array([0, 31, 32, 247]), np.array([0, 15, 3, 9])
    located = SBC.items_at(clusters, resources).tolist()
    assert located == [SBC.items_at(int(c), int(r)) for c, r in zip(clusters, resources, strict=True)]
