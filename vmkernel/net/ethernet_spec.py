"""Frames on a virtual switch: offsets, sizes, types, and the VLAN ids that mean something; no behaviour.

A frame begins with the destination address and has no FCS. Numbers are in network byte order.
Source: IEEE 802.3, clause 3; IEEE 802.1Q-2005, clause 9 (tag: PCP, CFI, VID); RFC 903 (RARP).
"""

from __future__ import annotations

ADDRESS_BYTES = 6
SOURCE, TYPE, TAG_CONTROL, TAGGED_TYPE = 6, 12, 14, 16  # offsets
HEADER_BYTES, TAG_BYTES = 14, 4
FRAME_MIN = 60
GROUP = 0x01  # of an address's first byte
BROADCAST = b"\xff" * ADDRESS_BYTES
NO_ADDRESS = bytes(ADDRESS_BYTES)

TPID = b"\x81\x00"
TAG_TYPES = frozenset((TPID, b"\x88\xa8", b"\x91\x00"))  # 802.1Q, 802.1ad, and what came before that
TYPE_IPV4, TYPE_ARP, TYPE_RARP = 0x0800, 0x0806, 0x8035
TYPE_BEACON = b"\x89\x22"  # VMware's, for beacon probes
VID_MASK = 0x0FFF
VLAN_NONE, VLAN_MAX, VLAN_TRUNK = 0, 4094, 4095  # 4095 is reserved in a tag, and means "all" of a port group

MTU, MTU_MIN, MTU_MAX = 1500, 1280, 9000
# Where the last byte of an IPv4 address is, in an untagged frame
IP_SOURCE_LAST, IP_DESTINATION_LAST = 29, 33
IP_SOURCE, IP_DESTINATION, IP_ADDRESS_BYTES = 26, 30, 4

RARP_HARDWARE, RARP_REQUEST = 1, 3
