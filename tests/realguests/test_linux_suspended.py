"""Linux suspended and brought back: in the middle of its boot, at the shell, in another process.

What a machine does after it came back is judged by the guest: everything is still there, the clock goes on, no driver
complains.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.guest import CONFIG, PROMPT, Guest, built, linux, restored, resumed, running, with_drives
from tests.realguests.transcript import Transcript
from vmx.stop import StopKind

MakeBoot = Callable[[str, str], iso.Boot]
CD_MODULES = "mods=ata_piix,sr_mod,isofs settle=0"
VCPUS = [1, pytest.param(2, marks=pytest.mark.long), pytest.param(4, marks=pytest.mark.long)]

# What the kernel is saying when the machine stops: of its memory, processors, devices, and in user land.
MOMENTS = ("Memory: ", "smp: Brought up", "PCI: Using configuration type 1", "rtc_cmos", "T: [")


def complains(*guests: Guest) -> list[str]:
    return [line for guest in guests for line in guest.transcript.complaints]


@pytest.mark.parametrize("vcpus", VCPUS)
def test_a_shell_goes_on_with_its_files_and_its_cd(
    vcpus: int, raw_boot: MakeBoot, data_iso: Path, tmp_path: Path
) -> None:
    config = with_drives(replace(CONFIG, vcpus=vcpus), cd=data_iso)
    program = linux(raw_boot("686", f"{CD_MODULES} checks=none end=shell"))
    saved = tmp_path / "linux.vmss"
    with running(config, program) as guest:
        guest.expect(PROMPT)
        guest.ask("mount -t iso9660 -o ro /dev/sr0 /mnt")
        guest.ask("head -c 100000 /dev/urandom >/tmp/noise")
        noise = guest.ask("sha256sum /tmp/noise")
        before = float(guest.ask("cut -d' ' -f1 /proc/uptime"))
        guest.ask("(while :; do :; done) &")
        guest.suspend(saved)
    with resumed(saved, config, program) as again:
        assert again.ask("sha256sum /tmp/noise") == noise
        assert float(again.ask("cut -d' ' -f1 /proc/uptime")) >= before
        expected = iso.data_sums()["megabyte"]
        assert again.ask("sha256sum </mnt/megabyte") == f"{expected}  -"
        assert again.ask("nproc") == str(vcpus)
        again.ask("kill %1; sleep 0.2")
        again.ask("dmesg | tail -n 30")
        again.send("poweroff -f\n")
        again.ended(StopKind.POWERED_OFF)
        assert not complains(guest, again)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")
@pytest.mark.parametrize("vcpus", VCPUS)
def test_a_shell_goes_on_under_one_engine_and_the_other(vcpus: int, raw_boot: MakeBoot, tmp_path: Path) -> None:
    """Interpreted up to its prompt, then run directly, then interpreted: files, a busy program and the clock go on."""
    interpreted, direct = (replace(CONFIG, vcpus=vcpus, engine=engine) for engine in ("interp", "direct"))
    program = linux(raw_boot("686-pae", "mods=none checks=none end=shell"))
    saved = [tmp_path / f"{number}.vmss" for number in range(2)]
    with running(interpreted, program) as first:
        first.expect(PROMPT)
        first.ask("head -c 300000 /dev/urandom >/tmp/noise")
        noise = first.ask("sha256sum /tmp/noise")
        first.ask("(while sha256sum </tmp/noise >>/tmp/sums; do :; done) &")
        uptimes = [float(first.ask("cut -d' ' -f1 /proc/uptime"))]
        first.suspend(saved[0])
    with resumed(saved[0], direct, program) as second:
        assert second.ask("sha256sum /tmp/noise") == noise
        second.ask("sleep 1")
        uptimes.append(float(second.ask("cut -d' ' -f1 /proc/uptime")))
        assert second.machine.vcpus[0].stats.direct_bursts
        second.suspend(saved[1])
    with resumed(saved[1], interpreted, program) as third:
        assert third.ask("sha256sum /tmp/noise") == noise
        third.ask("kill %1; sleep 0.2")
        assert third.ask("sort -u /tmp/sums") == noise.replace("/tmp/noise", "-")
        uptimes.append(float(third.ask("cut -d' ' -f1 /proc/uptime")))
        third.ask("dmesg | tail -n 30")
        third.send("poweroff -f\n")
        third.ended(StopKind.POWERED_OFF)
    assert uptimes == sorted(uptimes)
    assert not complains(first, second, third)


@pytest.mark.parametrize("vcpus", VCPUS)
def test_a_boot_goes_on_wherever_it_was(vcpus: int, raw_boot: MakeBoot, data_iso: Path, tmp_path: Path) -> None:
    """Suspended five times on its way up, each time into a new machine."""
    config = with_drives(replace(CONFIG, vcpus=vcpus), cd=data_iso)
    program = linux(raw_boot("686-pae", f"{CD_MODULES} checks=cdrom,complaints loglevel=7 end=poweroff"))
    moments = [moment for moment in MOMENTS if vcpus > 1 or "smp" not in moment]
    said = b""
    for number, moment in enumerate(moments):
        before = restored(tmp_path / f"{number - 1}.vmss", config, program) if number else built(config, program)
        with before as guest:
            guest.suspend_at(moment, tmp_path / f"{number}.vmss")
            said += guest.line.output
    with resumed(tmp_path / f"{len(moments) - 1}.vmss", config, program) as guest:
        guest.ended(StopKind.POWERED_OFF)
        transcript = Transcript(said + guest.line.output)
    assert transcript.cpus == vcpus
    assert transcript.sums == iso.data_sums()
    assert not transcript.complaints
