"""The CPUID leaves of a machine: the declared processor with features hidden or shown.

A hidden feature still executes, as on ESX: a mask changes what CPUID says and nothing else.
"""

import struct

from ringfence.errors import BadOption
from vmm.cpuid_spec import (
    ANY_SUBLEAF,
    BRAND,
    DEFAULT_FEATURES,
    FEATURES,
    HYPERVISOR_TIMING,
    HYPERVISOR_VENDOR,
    LEAVES,
    Leaf,
)

FIRST_BRAND_LEAF = 0x80000002


def cpu_model(features: str = "", tsc_hz: int = 0, bus_hz: int = 0) -> list[Leaf]:
    """Leaves for the core's struct cpu_model; `features` is a list such as "-sse2,-pae,+hypervisor".

    Of several words for one feature the last counts. The frequencies are those of the hypervisor's timing leaf; 0: it
    is not shown. Raises BadOption for a word that hides or shows nothing known.
    """
    shown = _shown(features)
    leaves = [*(_with_features(leaf, shown) for leaf in LEAVES), *_brand_leaves()]
    if "hypervisor" in shown:
        leaves += _hypervisor_leaves(tsc_hz, bus_hz)
    return sorted(leaves)


def _shown(features: str) -> set[str]:
    shown = set(DEFAULT_FEATURES)
    for word in filter(None, (part.strip() for part in features.split(","))):
        name = word[1:].lower()
        if word[0] not in "+-":
            raise BadOption(f"CPU feature {word!r}: expected +NAME to show or -NAME to hide one")
        if name not in FEATURES:
            raise BadOption(f"CPU feature {name!r} is not known: expected one of {', '.join(FEATURES)}")
        if word[0] == "+":
            shown.add(name)
        else:
            shown.discard(name)
    return shown


def _with_features(leaf: Leaf, shown: set[str]) -> Leaf:
    words = {"ecx": leaf.ecx, "edx": leaf.edx}
    for name in shown:
        where = FEATURES[name]
        if where.leaf == leaf.leaf:
            words[where.register] |= 1 << where.bit
    return leaf._replace(**words)


def _brand_leaves() -> list[Leaf]:
    words = struct.unpack("<12I", BRAND.ljust(48, b"\0"))
    return [Leaf(FIRST_BRAND_LEAF + i, ANY_SUBLEAF, *words[4 * i : 4 * i + 4]) for i in range(3)]


def _hypervisor_leaves(tsc_hz: int, bus_hz: int) -> list[Leaf]:
    if tsc_hz == 0:
        return [HYPERVISOR_VENDOR]
    timing = HYPERVISOR_TIMING._replace(eax=tsc_hz // 1000, ebx=bus_hz // 1000)
    return [HYPERVISOR_VENDOR._replace(eax=timing.leaf), timing]
