"""`python -m bench.net_machine ENGINE ADDRESS KERNEL INITRD APPEND`: a Linux machine on the port group `lan`.

COM1 is standard output. It is what `ringfence run` makes of a .vmx file with one vlance, but without firmware. The
VMkernel's process and its configuration are where XDG_RUNTIME_DIR and XDG_CONFIG_HOME say.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.linux import MEMORY_MIB
from vmx import runner
from vmx.linux import Initrd, LinuxImage
from vmx.machine import Machine
from vmx.machine_config import MachineConfig, PortKind, PortSpec
from vmx.network_config import NicSpec, parse_address
from vmx.plug import plug_in
from vmx.program import LinuxProgram
from vmx.stop import StopKind

GROUP = "lan"


def unheard(byte: int) -> None:
    """There is no firmware that would say anything."""


def main(engine: str, address: str, kernel: str, initrd: str, append: str) -> int:
    station = parse_address(address)
    config = MachineConfig(
        MEMORY_MIB, engine, uuid=station.rjust(16, b"\0"), serials=(PortSpec(PortKind.STDIO), None),
        nics={0: NicSpec(station, network=GROUP)},
    )  # fmt: skip
    config.check()
    attached = plug_in(config, lambda text: None, unheard, firmware=False)
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        machine.reboots = False
        machine.start_with(LinuxProgram(LinuxImage.read(Path(kernel)), append, Initrd.find(Path(initrd))))
        machine.start()
        return 0 if runner.run(machine).kind is StopKind.RESET else 1
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
