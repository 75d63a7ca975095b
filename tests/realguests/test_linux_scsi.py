"""Debian's drivers on each SCSI adapter: an ext4 file system on a VMDK, judged by the guest, e2fsck and qemu-img."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.guest import CONFIG, LONG_S, PROMPT, Guest, linux, resumed, running
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveSpec, MachineConfig
from vmx.program import LinuxProgram
from vmx.stop import StopKind

MakeBoot = Callable[[str, str], iso.Boot]
MakeIso = Callable[..., Path]
DISK_BYTES = 96 << 20
PIECE = 1 << 20
MODULES = {AdapterKind.LSILOGIC: "mptspi", AdapterKind.BUSLOGIC: "BusLogic"}
# What the drivers say on VMware's machines.
SAYS = {
    AdapterKind.LSILOGIC: (
        "ioc0: LSI53C1030 B0: Capabilities={Initiator}", "FwRev=00000000h, Ports=1, MaxQ=128, IRQ=17",
        "Domain Validation skipping write tests", "FAST-40 WIDE SCSI 80.0 MB/s ST (25 ns, offset 127)",
    ),
    AdapterKind.BUSLOGIC: (
        "Configuring BusLogic Model BT-958 PCI Wide Ultra SCSI Host Adapter", "Firmware Version: 5.07B",
        "Scatter/Gather Limit: 128 of 8192 segments, Mailboxes: 211", "Host Adapter Queue Depth: 192",
        "BusLogic BT-958 Initialized Successfully",
    ),
}  # fmt: skip
SYMPTOMS = "dmesg | grep -E 'I/O error|attempting|Resetting|rejecting'"


def words(kind: AdapterKind, checks: str = "none") -> str:
    return f"mods={MODULES[kind]},sd_mod,crc32c_generic,ext4 loglevel=7 settle=2 checks={checks} wr=0 end=shell"


def with_disk(kind: AdapterKind, disk: Path, **more: object) -> MachineConfig:
    drive = DriveSpec(DriveKind.DISK, disk, **more)  # type: ignore[arg-type]
    return replace(CONFIG, scsi={0: AdapterSpec(kind, {0: drive})})


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here")
    return found


def outside(disk: Path, raw: Path) -> Path:
    """The disk as qemu-img reads it, which is what is read here too."""
    subprocess.run([needs("qemu-img"), "convert", "-O", "raw", disk, raw], check=True)
    with open_disk(disk) as chain, raw.open("rb") as theirs:
        buffer = memoryview(bytearray(PIECE))
        for at in range(0, chain.size_bytes, PIECE):
            chain.read(at, [buffer])
            assert theirs.read(PIECE) == buffer, f"at {at}"
    return raw


def is_clean(raw: Path) -> None:
    done = subprocess.run([needs("e2fsck"), "-f", "-n", raw], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def make_disk(folder: Path, *, journal: bool) -> Path:
    """A monolithicSparse disk for the guest to make ext2 on; or two redo logs over an ext4 that was made outside."""
    path = folder / "disk.vmdk"
    if not journal:
        create(path, Kind.MONOLITHIC_SPARSE, DISK_BYTES)
        return path
    raw = folder / "made.raw"
    subprocess.run([needs("mke2fs"), "-q", "-t", "ext4", raw, f"{DISK_BYTES >> 10}k"], check=True)
    subprocess.run([needs("qemu-img"), "convert", "-O", "vmdk", raw, path], check=True)
    for number in (1, 2):
        child = folder / f"disk-{number:06}.vmdk"
        create_child(child, path)
        path = child
    return path


def fill(guest: Guest, *, make: bool = True) -> None:
    """A file system with copies of a tree, whose sums are in /tmp/sums, synchronized."""
    # A driver may search its bus when the shell is there already.
    guest.ask("n=0; while [ ! -b /dev/sda ] && [ $n -lt 60 ]; do sleep 1; n=$((n+1)); done")
    if make:
        assert guest.ask("mke2fs /dev/sda >/dev/null; echo $?").endswith("0")
    assert guest.ask("mount -t ext4 /dev/sda /mnt; echo $?").endswith("0")
    guest.ask("cp -a /lib /bin /mnt/; dd if=/dev/zero of=/mnt/z bs=1M count=8 conv=fsync")
    guest.ask("(cd /mnt; find . -type f -exec md5sum {} + >/tmp/sums); sync")


def holds(guest: Guest) -> None:
    """The tree is read from the disk as it was written."""
    guest.ask("umount /mnt; echo 3 >/proc/sys/vm/drop_caches")
    assert guest.ask("mount -t ext4 /dev/sda /mnt; (cd /mnt; md5sum -c -s /tmp/sums); echo $?").endswith("0")


def switch_off(guest: Guest) -> None:
    assert guest.ask(SYMPTOMS) == ""
    guest.send("poweroff -f\n")
    guest.ended(StopKind.POWERED_OFF)
    assert not guest.transcript.complaints


def program(boot: MakeBoot, kind: AdapterKind) -> LinuxProgram:
    return linux(boot("686", words(kind, "complaints")))


@pytest.mark.long
@pytest.mark.parametrize("kind", AdapterKind)
@pytest.mark.parametrize(("vcpus", "journal"), [(1, False), (2, True)])
def test_a_file_system_on_a_vmdk_is_whole_for_everybody(
    kind: AdapterKind, vcpus: int, journal: bool, raw_boot: MakeBoot, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path, journal=journal)
    config = replace(with_disk(kind, disk), vcpus=vcpus)
    with running(config, program(raw_boot, kind), LONG_S) as guest:
        guest.expect(PROMPT)
        fill(guest, make=not journal)
        holds(guest)
        guest.ask("umount /mnt")
        switch_off(guest)
        said = guest.transcript.text
    for line in SAYS[kind]:
        assert line in said
    is_clean(outside(disk, tmp_path / "disk.raw"))


@pytest.mark.long
def test_what_was_synchronized_is_there_after_the_plug_was_pulled(raw_boot: MakeBoot, tmp_path: Path) -> None:
    """The file as it is while the machine runs: what a process that is killed leaves."""
    kind, disk = AdapterKind.LSILOGIC, make_disk(tmp_path, journal=True)
    with running(with_disk(kind, disk), program(raw_boot, kind), LONG_S) as guest:
        guest.expect(PROMPT)
        fill(guest, make=False)
        guest.ask("(cd /mnt; while :; do cp -a lib more; rm -r more; done) 2>/dev/null &")
        left = tmp_path / "left"
        left.mkdir()
        assert guest.machine.attachments.flusher is not None
        guest.machine.attachments.flusher.close()
        with guest.machine.lock:
            guest.machine.board.scsi.settle()  # nobody writes while the files are copied
            for file in tmp_path.glob("disk*.vmdk"):
                shutil.copy(file, left)
    with running(with_disk(kind, left / disk.name), program(raw_boot, kind), LONG_S) as guest:
        guest.expect(PROMPT)
        assert guest.ask("mount -t ext4 /dev/sda /mnt; echo $?").endswith("0")
        assert guest.ask("cmp /mnt/bin/busybox /bin/busybox; echo $?") == "0"
        guest.ask("umount /mnt")
        switch_off(guest)
    is_clean(outside(left / disk.name, tmp_path / "left.raw"))


@pytest.mark.long
@pytest.mark.parametrize("kind", AdapterKind)
def test_a_machine_suspended_while_it_writes_goes_on(kind: AdapterKind, raw_boot: MakeBoot, tmp_path: Path) -> None:
    disk, saved = make_disk(tmp_path, journal=False), tmp_path / "linux.vmss"
    config, kernel = with_disk(kind, disk), program(raw_boot, kind)
    with running(config, kernel, LONG_S) as guest:
        guest.expect(PROMPT)
        fill(guest)
        guest.send("dd if=/bin/busybox of=/mnt/copy conv=fsync; cp -a /lib /mnt/a; sync; echo rea''dy\n")
        guest.expect("records in")
        guest.suspend(saved)
    with resumed(saved, config, kernel) as again:
        again.expect("ready\r\n")
        again.expect(PROMPT)
        holds(again)
        assert again.ask("cmp /mnt/copy /bin/busybox; echo $?") == "0"
        again.ask("umount /mnt")
        switch_off(again)
    is_clean(outside(disk, tmp_path / "disk.raw"))


@pytest.mark.long
@pytest.mark.parametrize("kind", AdapterKind)
def test_a_disc_in_a_scsi_drive_is_read(kind: AdapterKind, raw_boot: MakeBoot, data_iso: Path) -> None:
    config = replace(CONFIG, scsi={0: AdapterSpec(kind, {5: DriveSpec(DriveKind.CDROM, data_iso)})})
    modules = f"mods={MODULES[kind]},sr_mod,isofs settle=2 checks=cdrom,complaints end=poweroff"
    with running(config, linux(raw_boot("686", modules)), LONG_S) as guest:
        guest.ended(StopKind.POWERED_OFF)
        assert f"{iso.data_sums()['megabyte']}  ./megabyte" in guest.transcript.text
        assert not guest.transcript.complaints


@pytest.mark.long
def test_a_kernel_boots_from_a_scsi_disk_by_firmware_and_boot_loader(grub_iso: MakeIso, tmp_path: Path) -> None:
    raw = grub_iso("686", "mods=mptspi,sd_mod settle=2 checks=pci,disks,complaints end=poweroff")
    disk = tmp_path / "disk.vmdk"
    subprocess.run([needs("qemu-img"), "convert", "-O", "vmdk", raw, disk], check=True)
    with running(with_disk(AdapterKind.LSILOGIC, disk), limit_s=LONG_S) as guest:
        guest.ended(StopKind.POWERED_OFF)
        assert "T: disk sda sectors" in guest.transcript.text and not guest.transcript.complaints
