"""`python -m tests.realguests.lan_machine SPEC`: a Linux machine on port groups; COM1 is standard input and output.

SPEC is JSON: name, engine, memory_mib, vcpus, kernel, initrd, append, nics (groups by the addresses of adapters),
and reboots, whether a reset starts it again or ends it. Status 1: it ended otherwise than by a reset or power-off.
It is what `ringfence run` makes of a .vmx file, but that no firmware loads the kernel. The VMkernel's process and its
configuration are where XDG_RUNTIME_DIR and XDG_CONFIG_HOME say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vmx import runner
from vmx.linux import Initrd, LinuxImage
from vmx.machine import Machine
from vmx.machine_config import MachineConfig, PortKind, PortSpec
from vmx.network_config import NicSpec, parse_address
from vmx.plug import plug_in
from vmx.program import LinuxProgram
from vmx.stop import StopKind


def unheard(byte: int) -> None:
    """There is no firmware that would say anything."""


def main(spec: dict[str, Any]) -> int:
    stations = {parse_address(address): group for address, group in spec["nics"].items()}
    config = MachineConfig(
        spec["memory_mib"], spec["engine"], vcpus=spec["vcpus"], uuid=next(iter(stations)).rjust(16, b"\0"),
        serials=(PortSpec(PortKind.STDIO), None), name=spec["name"],
        nics={number: NicSpec(station, network=stations[station]) for number, station in enumerate(stations)},
    )  # fmt: skip
    config.check()
    attached = plug_in(config, lambda text: None, unheard, firmware=False)
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        machine.reboots = spec["reboots"]
        kernel, initrd = Path(spec["kernel"]), Path(spec["initrd"])
        machine.start_with(LinuxProgram(LinuxImage.read(kernel), spec["append"], Initrd.find(initrd)))
        machine.start()
        return 0 if runner.run(machine).kind in {StopKind.RESET, StopKind.POWERED_OFF} else 1
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
