"""Machines of .vmx files start from the network: iPXE's ROM loads Debian's kernel, by TFTP and by HTTP, through a NAT.

The NAT's DHCP names a script of iPXE, which the NAT's TFTP serves; the script says where the kernel is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.lan import ROOT, host_with, network, told
from tests.realguests.test_linux_switch_uplinks import needs_slirp, web_server
from vmx.network_rom import network_rom

StockBoot = Callable[[str, str], iso.Boot]
LIMIT_S = 900
VMX = """\
config.version = "8"
displayName = "netboot"
memsize = "128"
ringfence.engine = "{engine}"
bios.bootOrder = "ethernet0"
ethernet0.present = "TRUE"
ethernet0.networkName = "lan"
serial0.present = "TRUE"
serial0.fileType = "file"
serial0.fileName = "com1.txt"
"""
SCRIPT = """\
#!ipxe
kernel {where}/kernel {append}
initrd {where}/initrd
boot
"""


@needs_slirp
@pytest.mark.long
@pytest.mark.parametrize(("by", "engine"), [("tftp", "direct"), ("http", "direct"), ("tftp", "interp")])
def test_ipxe_boots_linux_from_the_host(
    by: str, engine: str, stock_boot: StockBoot, seabios: Path, tmp_path: Path
) -> None:
    if not network_rom():
        pytest.skip("no pxe-pcnet.rom (package ipxe-qemu)")
    boot = stock_boot("686", "mods=pcnet32 settle=0 checks=none end=poweroff loglevel=7")
    served, home = tmp_path / "served", tmp_path / "machine"
    served.mkdir()
    home.mkdir()
    shutil.copy(boot.kernel, served / "kernel")
    shutil.copy(boot.initrd, served / "initrd")
    append = boot.append.replace("quiet ", "")
    with web_server(served) as port, host_with(network({"lan": 0}, [f"nat:tftp={served},boot=boot.ipxe"])) as host:
        where = "tftp://10.0.2.2" if by == "tftp" else f"http://10.0.2.2:{port}"
        (served / "boot.ipxe").write_text(SCRIPT.format(where=where, append=append))
        (home / "netboot.vmx").write_text(VMX.format(engine=engine))
        environment = os.environ | host.environment | {"RINGFENCE_FIRMWARE": str(seabios.parent)}
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.ringfence", "run", str(home / "netboot.vmx"), "--timeout", str(LIMIT_S)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=LIMIT_S + 60)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            raise
        text = (home / "com1.txt").read_text("latin-1")
        log = (home / "vmware.log").read_text("latin-1") if (home / "vmware.log").exists() else ""
        assert "Linux version 6." in text and "T: kernel 6." in text, f"{said}\n{text[-2000:]}\n{log[-3000:]}"
        assert process.returncode == 0, said
        told(f"{by}, {engine}: {time.monotonic() - began:.0f} s from power-on to power-off")
