"""The policies of switches and port groups: security, traffic shaping, teaming. Groups inherit what they do not say.

Source: VMware VI SDK 2.5, HostNetworkPolicy and its parts (names and defaults); ESX Server 3 Configuration Guide,
"Layer 2 Security Policy", "Traffic Shaping Policy", "Load Balancing and Failover Policy".
Not modelled: error percentages and duplex as failure criteria, offload policies: a virtual uplink has none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum

from ringfence.errors import BadOption

KBPS, KBYTES = 1000, 1000  # bits per second, bytes
SHAPE_DEFAULT_KBPS, SHAPE_DEFAULT_KB = 102_400, 102_400
SHAPE_MAX = 1 << 40


class LoadBalance(StrEnum):
    """How a frame's uplink is chosen; the value is esx.conf's word."""

    PORT = "lb_srcid"
    SOURCE_MAC = "lb_srcmac"
    IP_HASH = "lb_ip"
    EXPLICIT = "explicit"


@dataclass(frozen=True, slots=True)
class Shaping:
    """What a port may send: `average` and `peak` in bits per second, `burst` in bytes sent above the average."""

    enabled: bool = False
    average: int = SHAPE_DEFAULT_KBPS * KBPS
    peak: int = SHAPE_DEFAULT_KBPS * KBPS
    burst: int = SHAPE_DEFAULT_KB * KBYTES

    def check(self, where: str) -> None:
        """Raises BadOption."""
        if not (0 < self.average <= self.peak <= SHAPE_MAX and 0 < self.burst <= SHAPE_MAX):
            found = f"average {self.average}, peak {self.peak} bit/s, burst {self.burst} bytes"
            raise BadOption(f"{where}: expected 0 < average <= peak, and a burst of at least one byte, found {found}")


@dataclass(frozen=True, slots=True)
class UplinkOrder:
    """Uplinks by name. Those that are in neither list are not used."""

    active: tuple[str, ...]
    standby: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.active or name in self.standby

    def without(self, name: str) -> UplinkOrder:
        active, standby = (tuple(one for one in row if one != name) for row in (self.active, self.standby))
        return UplinkOrder(active, standby)


@dataclass(frozen=True, slots=True)
class Policy:
    """All of a switch's, or what counts for a group in the end. `order` None: every uplink of the switch is active."""

    promiscuous: bool = False
    mac_changes: bool = True
    forged_transmits: bool = True
    shaping: Shaping = Shaping()
    balance: LoadBalance = LoadBalance.PORT
    order: UplinkOrder | None = None
    notify: bool = True
    failback: bool = True
    beacon: bool = False
    reverse: bool = True  # frames to many are taken only from the uplink that the port would use

    def check(self, where: str) -> None:
        """Raises BadOption."""
        self.shaping.check(f"{where}: traffic shaping")
        if self.beacon and self.balance is LoadBalance.IP_HASH:
            raise BadOption(f"{where}: expected beacon probing without {LoadBalance.IP_HASH}, found both")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a port group says itself; None is inherited from the switch."""

    promiscuous: bool | None = None
    mac_changes: bool | None = None
    forged_transmits: bool | None = None
    shaping: Shaping | None = None
    balance: LoadBalance | None = None
    order: UplinkOrder | None = None
    notify: bool | None = None
    failback: bool | None = None
    beacon: bool | None = None
    reverse: bool | None = None

    def over(self, policy: Policy) -> Policy:
        """What counts: the switch's policy where nothing is said here."""
        said = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        return replace(policy, **said)


assert [one.name for one in fields(Overrides)] == [one.name for one in fields(Policy)]
