"""The direct engine: a world that runs guest rings 1 to 3 on the host processor, and ring 0 by the interpreter.

All of it is in the world's own process (vmm/core/world_direct.c); to the VMX it is a world like another.
"""

from __future__ import annotations

from vmm._core import lib
from vmm.engines.world import World


class Direct(World):
    """One vCPU's world with direct execution. Raises HostRefused where the host lacks something that it needs."""

    name = "direct"
    mode = lib.DIRECT_ON


class DirectEager(Direct):
    """Runs directly whatever it may, whether that pays or not: for tests, which are made of short bursts."""

    name = "direct-eager"
    mode = lib.DIRECT_EAGER
