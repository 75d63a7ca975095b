"""SCSI disks on the command line, and a person who answers what a machine asks: the real command, over SeaBIOS."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.command import ringfence_here
from tests.vmx.lab import Lab, Talk, wait_until
from tests.vmx.scsi_machine import make_disk
from vmkernel.storage.chain import open_disk
from vmx import roms

SECTOR, WRITE_AT = 512, 8000

# Say "ready" on COM1; at a character write a sector, and say "good" or "bad".
BOOT_SECTOR = f"""
.code16
.globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7c00, %sp
    mov %dl, drive
    mov $0x3fb, %dx
    mov $3, %al
    out %al, %dx
    mov $ready, %si
again:
    call say
1:  mov $0x3fd, %dx
    in %dx, %al
    test $1, %al
    jz 1b
    mov $0x3f8, %dx
    in %dx, %al
    mov drive, %dl
    mov $packet, %si
    mov $0x4300, %ax
    int $0x13
    mov $bad, %si
    jc again
    mov $good, %si
    jmp again
say:
    lodsb
    test %al, %al
    jz 3f
    mov %al, %cl
    mov $0x3fd, %dx
2:  in %dx, %al
    test $0x20, %al
    jz 2b
    mov $0x3f8, %dx
    mov %cl, %al
    out %al, %dx
    jmp say
3:  ret
ready: .asciz "ready\\n"
good: .asciz "good\\n"
bad: .asciz "bad\\n"
drive: .byte 0
.align 4
packet:
    .byte 16, 0
    .word 1, 0x7c00, 0
    .long {WRITE_AT}, 0
.org 510
.word 0xaa55
"""


class FullLab(Lab):
    """A machine that boots from a SCSI disk, for whose file there is no more room when `fill` says so."""

    def boot(self) -> Talk:
        self.vm("start")
        talk = self.talk()
        talk.expect("ready")
        return talk

    def limit(self, size: int) -> None:
        hard = resource.prlimit(self.pid(), resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid(), resource.RLIMIT_FSIZE, (size, hard))

    def fill(self) -> None:
        self.limit((self.folder / "disk.vmdk").stat().st_size)

    def question(self) -> str:
        wait_until(lambda: self.status()["question"], "a question")
        return str(self.status()["question"])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FullLab]:
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a disk")
    disk, raw = make_disk(tmp_path / "disk.vmdk"), tmp_path / "boot.bin"
    subprocess.run(
        ["gcc", "-m32", "-nostdlib", "-Wl,--build-id=none,-Ttext=0x7c00,--oformat=binary", "-x", "assembler", "-",
         "-o", str(raw)], input=BOOT_SECTOR, text=True, check=True, capture_output=True,
    )  # fmt: skip
    with open_disk(disk, writable=True) as chain:
        chain.write(0, [memoryview(raw.read_bytes()[:SECTOR])])
    made = FullLab(tmp_path, monkeypatch)
    keys = {"scsi0.present": "TRUE", "scsi0.virtualDev": "lsilogic", "scsi0:0.present": "TRUE"}
    made.describe(**keys, **{"scsi0:0.fileName": "disk.vmdk"}, bios440_filename="")
    yield made
    made.close()


def test_a_person_makes_room_and_the_guest_knows_nothing_of_it(lab: FullLab) -> None:
    talk = lab.boot()
    assert lab.refused("answer", "retry") == "answer: the machine asks nothing"
    lab.fill()
    talk.send("w")
    question = lab.question()
    assert "scsi0:0" in question and "disk.vmdk" in question and question.endswith("retry or abort?")
    assert f"QUESTION {question}" in lab.log() and question in lab.vm("status")
    assert "expected retry or abort" in lab.refused("answer", "perhaps")
    assert "waits for an answer" in lab.refused("suspend")
    lab.limit(resource.RLIM_INFINITY)
    lab.vm("answer", "retry")
    talk.expect("good")
    assert not lab.status()["question"] and lab.log().count("QUESTION") == 1
    lab.vm("stop", "--hard")
    sector = memoryview(bytearray(SECTOR))
    with open_disk(lab.folder / "disk.vmdk") as chain:
        chain.read(WRITE_AT * SECTOR, [sector])
    assert sector[510:] == b"\x55\xaa"


def test_a_person_lets_the_write_fail(lab: FullLab) -> None:
    talk = lab.boot()
    lab.fill()
    talk.send("w")
    lab.question()
    lab.limit(resource.RLIM_INFINITY)
    lab.vm("answer", "abort")
    talk.expect("bad")
    talk.expect("good", asked="w")
    lab.vm("stop", "--hard")


def test_a_machine_that_asks_is_switched_off(lab: FullLab) -> None:
    talk = lab.boot()
    lab.fill()
    talk.send("w")
    lab.question()
    lab.limit(resource.RLIM_INFINITY)
    lab.vm("stop", "--hard")
    assert lab.state() == "poweredOff"


def test_the_devices_are_in_the_status_and_in_the_log(lab: FullLab) -> None:
    lab.boot()
    (row,) = [row for row in lab.status()["devices"] if row["device"] == "scsi0:0"]
    assert (row["kind"], row["connected"]) == ("disk", True) and row["backing"].endswith("disk.vmdk")
    assert "DEVICE scsi0:0  disk:" in lab.log()
    lab.vm("stop", "--hard")


@pytest.mark.parametrize("kind", ["lsilogic", "buslogic"])
def test_disks_of_the_command_line_are_on_one_adapter(kind: str, tmp_path: Path) -> None:
    vmdk, raw = make_disk(tmp_path / "disk.vmdk"), tmp_path / "disk.img"
    raw.write_bytes(bytes(1 << 20))
    done = ringfence_here(
        "run", "scsi", "--engine", "interp", "--append", "adapters=1", "--serial", f"file:{tmp_path / 'com1'}",
        "--timeout", "60", "--scsi", str(vmdk), "--scsi", str(raw), "--scsi-adapter", kind, "--no-questions",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert " 0 failed" in (tmp_path / "com1").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scsi-adapter", "warp"], "--scsi-adapter warp: expected lsilogic or buslogic"),
        (["--scsi", "d"] * 16, "--scsi: expected at most 15, found 16"),
        (["--scsi", "/nowhere/d.vmdk"], "--scsi: /nowhere/d.vmdk"),
    ],
)
def test_options_that_cannot_be_are_one_line(options: list[str], said: str) -> None:
    done = ringfence_here("run", "hello", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr
