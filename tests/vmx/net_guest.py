"""`python -m tests.vmx.net_guest SPEC`: the guest `net` in a machine on a port group; its COM1 is standard output.

SPEC is JSON: number (of its station), group, engine, kind of its adapter, and words for the guest. Status 1: it ended
otherwise than by its own will. The VMkernel's process and its configuration are where XDG_RUNTIME_DIR and
XDG_CONFIG_HOME say.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from guests import build
from tests.vmkernel.net.ends import station
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig, PortKind, PortSpec
from vmx.network_config import NicKind, NicSpec
from vmx.plug import plug_in
from vmx.stop import StopKind


def main(spec: dict[str, Any]) -> int:
    address = station(spec["number"])
    config = MachineConfig(
        memory_mib=16, engine=spec["engine"], uuid=address.rjust(16, b"\0"), name=f"vm{spec['number']}",
        serials=(PortSpec(PortKind.STDIO), None),
        nics={0: NicSpec(address, NicKind(spec["kind"]), network=spec["group"])},
    )  # fmt: skip
    attached = plug_in(config, lambda text: None, lambda byte: None, firmware=False)
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        machine.load(load_program(build("net"), config.memory_mib << 20), spec["words"])
        machine.start()
        return 0 if runner.run(machine).kind is StopKind.EXITED else 1
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
