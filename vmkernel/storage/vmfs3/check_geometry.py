"""What the header of a resource file must say, where it contradicts what else tells of the file's layout.

A header says some things twice, and others are known besides: the length of the file, the headers of its clusters with
their own numbers and places, what ESX always writes. Of all layouts that one of these tells of, the one that most of
them agree with is taken. A header must not be believed alone: everything in the file lies elsewhere by a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import resource_spec as spec
from vmkernel.storage.vmfs3.geometry import ResourceGeometry
from vmkernel.storage.vmfs3.resources import CLUSTERS_PER_GROUP_MAX
from vmkernel.storage.vmfs3.volume_spec import LockType

RESOURCES_LIMIT = 1 << 32
PER_CLUSTER_MAX = {
    LockType.FILE_BLOCKS: 512, LockType.FILE_DESCRIPTORS: 512, LockType.POINTER_BLOCKS: 16, LockType.SUB_BLOCKS: 16,
}  # fmt: skip
HEADER_FIELDS = 5
CLUSTERS_WEIGHT, CONTRADICTION_WEIGHT, USUAL_WEIGHT = 2.0, 1.0, 0.5  # beside a field of the header
Places = NDArray[np.int64]
Read = Callable[[int, int], bytes]  # (offset in the file, length)


class Evidence:
    """What is known of a resource file. `total`: of its resources, where that is known for certain, else 0."""

    def __init__(
        self, header: Any, kind: LockType, size: int, length: int, room: int, total: int, read: Read,
        places: Callable[[Places], Places],
    ) -> None:  # fmt: skip
        self.header, self.kind, self.size, self.length, self.room = header, kind, size, length, room
        self.total, self.read, self.places = total, read, places
        self._clusters: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.bool_]]] = {}

    def geometry(self) -> ResourceGeometry | None:
        """None where nothing that fits is told."""
        header = self.header
        said = self._layout(header.resources_per_cluster, header.clusters_per_group, self.total or header.total)
        if said is not None and self._is_certain(said):
            return said
        found: list[tuple[float, ResourceGeometry]] = []
        for per, group in product(self._per_cluster(), self._per_group()):
            for total in self._totals(per, group):
                layout = self._layout(per, group, total)
                if layout is not None:
                    found.append((self._score(layout), layout))
        return max(found, key=lambda one: one[0])[1] if found else None

    def _layout(self, per: int, group: int, total: int) -> ResourceGeometry | None:
        """None where it cannot be."""
        if not (1 <= per <= PER_CLUSTER_MAX[self.kind] and 1 <= group <= CLUSTERS_PER_GROUP_MAX):
            return None
        if not 1 <= total < RESOURCES_LIMIT:
            return None
        layout = ResourceGeometry(per, self.size, total, group)
        return layout if layout.length <= self.room else None

    # what agrees with a layout

    def _is_certain(self, one: ResourceGeometry) -> bool:
        return self._by_header(one) == HEADER_FIELDS and self._by_length(one) and self._by_clusters(one) == (1, False)

    def _score(self, one: ResourceGeometry) -> float:
        usual = one.per_group == spec.CLUSTERS_PER_GROUP
        share, is_contradicted = self._by_clusters(one)
        return (
            self._by_header(one) + self._by_length(one) + USUAL_WEIGHT * usual + CLUSTERS_WEIGHT * share
            - CONTRADICTION_WEIGHT * is_contradicted
        )  # fmt: skip

    def _by_header(self, one: ResourceGeometry) -> int:
        header = self.header
        return sum((
            header.resources_per_cluster == one.per_cluster, header.clusters_per_group == one.per_group,
            header.total == one.total, header.group_size == one.group_size, header.groups == one.groups,
        ))  # fmt: skip

    def _by_length(self, one: ResourceGeometry) -> bool:
        """Of a short .fdc.sf, a whole file block."""
        return self.length == one.length or (self.length == self.room > one.length and not self.total)

    def _by_clusters(self, one: ResourceGeometry) -> tuple[float, bool]:
        """Which share of the clusters that there are or should be says the same; is there one that says another?"""
        table, sound = self._headers(one.per_group, one.per_cluster)
        numbers = np.arange(len(table), dtype=np.int64)
        good = table["total"] == np.minimum(one.per_cluster, one.total - numbers * one.per_cluster)
        share = float((sound & good).sum()) / max(one.clusters, int(sound.sum()))
        return share, bool((sound & ~good).any())

    def _headers(self, group: int, per: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Of all clusters that the file has room for, and which of them are whole and where they should be."""
        key = (group, per)
        if key not in self._clusters:
            layout = ResourceGeometry(per, self.size, 1, group)
            groups = max(0, self.room - spec.GROUP_OFFSET - layout.headers_bytes) // layout.group_size + 1
            at = np.arange(group, dtype=np.int64) * spec.CLUSTER_HEADER_BYTES
            offsets = (layout.group_at(0) + np.arange(groups, dtype=np.int64)[:, None] * layout.group_size + at).ravel()
            offsets = offsets[offsets + spec.CLUSTER_HEADER_BYTES <= self.room]
            raw = b"".join(
                self.read(start, min(layout.headers_bytes, self.room - start))
                for start in (layout.group_at(number) for number in range(groups)) if start < self.room
            )  # fmt: skip
            table = np.frombuffer(raw, spec.CLUSTER, len(offsets))
            lock, total = table["lock"], table["total"]
            sound = (
                (lock["type"] == self.kind) & (lock["position"] == self.places(offsets))
                & (table["number"] == np.arange(len(table))) & (total >= 1) & (total <= per)
            )  # fmt: skip
            whole = np.flatnonzero(sound)
            bits = np.unpackbits(table["bitmap"][whole], axis=1, bitorder="little")
            sound[whole] = ~(bits & (np.arange(spec.RESOURCES_MAX) >= total[whole, None])).any(axis=1)
            self._clusters[key] = table, sound
        return self._clusters[key]

    # what layouts there could be

    def _per_cluster(self) -> list[int]:
        header = self.header
        found = [header.resources_per_cluster]
        if self.size and header.clusters_per_group:
            found.append((header.group_size // header.clusters_per_group - spec.CLUSTER_HEADER_BYTES) // self.size)
        first = np.frombuffer(self.read(spec.GROUP_OFFSET, spec.CLUSTER_HEADER_BYTES), spec.CLUSTER)[0]
        return list(dict.fromkeys([*found, int(first["total"])]))

    def _per_group(self) -> list[int]:
        header = self.header
        one = spec.CLUSTER_HEADER_BYTES + header.resources_per_cluster * self.size
        return list(dict.fromkeys([header.clusters_per_group, header.group_size // one, spec.CLUSTERS_PER_GROUP]))

    def _totals(self, per: int, group: int) -> list[int]:
        if self.total:
            return [self.total]
        found = [self.header.total]
        if self._layout(per, group, 1) is None:
            return found
        table, sound = self._headers(group, per)
        if sound.any():
            last = int(np.flatnonzero(sound)[-1])
            found.append(last * per + int(table["total"][last]))
        layout = ResourceGeometry(per, self.size, 1, group)
        groups, rest = divmod(self.length - spec.GROUP_OFFSET, layout.group_size)
        found.append(groups * group * per + max(0, rest - layout.headers_bytes) // self.size)
        return list(dict.fromkeys(found))
