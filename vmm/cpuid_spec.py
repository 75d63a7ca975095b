"""The processor that CPUID shows: a Pentium III class part with SSE2, PAE, SEP and NX. Data only.

Leaves are (EAX, EBX, ECX, EDX) with every feature word zero: `vmm.cpuid` sets the feature bits.
The local APIC ID and the APIC bit's dependence on APIC_BASE are the core's, at execution.
Source: Intel SDM volume 2A, "CPUID", tables 3-8 to 3-12; hypervisor leaves as VMware documents them.
"""

from typing import NamedTuple


class Leaf(NamedTuple):
    """One row of CPUID's answers; the fields are those of the core's struct cpuid_leaf."""

    leaf: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int


class FeatureBit(NamedTuple):
    """Where a feature is announced: the leaf, the register's name and the bit number."""

    leaf: int
    register: str
    bit: int


ANY_SUBLEAF = 0xFFFFFFFF
MAX_PHYSICAL_BITS = 36

SIGNATURE = 0x00000683      # family 6, model 8, stepping 3; also EDX after reset
BRAND_INDEX = 2             # "Intel Pentium III processor", for software that knows no brand string
BRAND = b"Ringfence virtual Pentium III"    # leaves 80000002h to 80000004h: 48 bytes, NUL-padded

LEAVES = (
    #    leaf        subleaf      eax         ebx          ecx         edx
    Leaf(0x00000000, ANY_SUBLEAF, 0x00000002, 0x756E6547, 0x6C65746E, 0x49656E69),     # "GenuineIntel"
    Leaf(0x00000001, ANY_SUBLEAF, SIGNATURE, BRAND_INDEX, 0x00000000, 0x00000000),
    Leaf(0x00000002, ANY_SUBLEAF, 0x03020101, 0x00000000, 0x00000000, 0x0C040843),     # caches and TLBs of a Katmai
    Leaf(0x80000000, ANY_SUBLEAF, 0x80000004, 0x00000000, 0x00000000, 0x00000000),
    Leaf(0x80000001, ANY_SUBLEAF, 0x00000000, 0x00000000, 0x00000000, 0x00000000),
)

# Shown only with the feature `hypervisor`. ESX 3 itself had neither the bit nor these leaves. TIMING holds TSC and APIC
# bus frequency in kHz, which the machine knows; without it the highest leaf is the vendor's.
HYPERVISOR_VENDOR = Leaf(0x40000000, ANY_SUBLEAF, 0x40000000, 0x61774D56, 0x4D566572, 0x65726177)     # "VMwareVMware"
HYPERVISOR_TIMING = Leaf(0x40000010, ANY_SUBLEAF, 0, 0, 0, 0)

FEATURES = {
    "fpu": FeatureBit(1, "edx", 0),
    "vme": FeatureBit(1, "edx", 1),
    "de": FeatureBit(1, "edx", 2),
    "pse": FeatureBit(1, "edx", 3),
    "tsc": FeatureBit(1, "edx", 4),
    "msr": FeatureBit(1, "edx", 5),
    "pae": FeatureBit(1, "edx", 6),
    "mce": FeatureBit(1, "edx", 7),
    "cx8": FeatureBit(1, "edx", 8),
    "apic": FeatureBit(1, "edx", 9),
    "sep": FeatureBit(1, "edx", 11),
    "mtrr": FeatureBit(1, "edx", 12),
    "pge": FeatureBit(1, "edx", 13),
    "mca": FeatureBit(1, "edx", 14),
    "cmov": FeatureBit(1, "edx", 15),
    "pat": FeatureBit(1, "edx", 16),
    "pse36": FeatureBit(1, "edx", 17),
    "mmx": FeatureBit(1, "edx", 23),
    "fxsr": FeatureBit(1, "edx", 24),
    "sse": FeatureBit(1, "edx", 25),
    "sse2": FeatureBit(1, "edx", 26),
    "hypervisor": FeatureBit(1, "ecx", 31),
    "nx": FeatureBit(0x80000001, "edx", 20),
}

DEFAULT_FEATURES = frozenset(FEATURES) - {"hypervisor"}
