"""What the verbs about the network share: where its configuration is, changing it, and the VMkernel that may run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmkernel.host.client import KernelPlace
    from vmkernel.net.host_network import HostNetwork
    from vmkernel.net.network_file import NetworkFile

INHERIT = "inherit"


def network_file() -> NetworkFile:
    from vmkernel.net.network_file import NetworkFile

    return NetworkFile.of_user()


def kernel_place() -> KernelPlace:
    """Of this user. Raises HostRefused."""
    from vmkernel.host.client import KernelPlace
    from vmx.registry import Registry

    return KernelPlace(Registry.of_user().directory, network_file().path)


def status() -> dict[str, Any] | None:
    """What the VMkernel says; None where none is running."""
    from vmkernel.host.client import NotRunning

    try:
        return kernel_place().ask("status")
    except NotRunning:
        return None


def change(action: Callable[[HostNetwork], HostNetwork]) -> HostNetwork:
    """In the file, and then in a VMkernel that is running. What does not work there is said on stderr."""
    from vmkernel.host.client import NotRunning

    network = network_file().change(action)
    try:
        answer = kernel_place().ask("reload")
    except NotRunning:
        return network
    for row in (*answer["uplinks"], *answer["troubles"]):
        if row["trouble"]:
            sys.stderr.write(f"ringfence: {row['name']}: {row['trouble']}\n")
    return network


def usage(running: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The VMkernel's row of each switch and port group, by ("switch" or "group") and name."""
    rows: dict[str, dict[str, Any]] = {}
    for switch in running["switches"] if running else []:
        rows[f"switch {switch['name']}"] = switch
        rows |= {f"group {group['name']}": group for group in switch["groups"]}
    return rows


def links(running: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The VMkernel's row of each uplink."""
    return {row["name"]: row for row in running["uplinks"]} if running else {}
