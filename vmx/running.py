"""A running machine as its control socket sees it: the power verbs, devices that come and go, the screen and the keys.

Called from the control threads. What enters a device does so under the machine's lock; what needs the machine at rest
waits for that, and for no longer than the machine runs.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ringfence.errors import BadOption, HostRefused, RingfenceError
from vmkernel.storage.place import Place
from vmm.interrupts import Pm1
from vmx.disc_tray import DiscTray
from vmx.floppy_slot import FloppySlot
from vmx.input_queue import InputQueue
from vmx.keys import strokes_of
from vmx.log import Log
from vmx.machine import Machine
from vmx.machine_actions import (
    ConsoleInfo,
    Deleted,
    DeviceStatus,
    MachineStatus,
    Returned,
    SnapshotRow,
    TakenSnapshot,
)  # fmt: skip
from vmx.machine_list import configured_devices
from vmx.plug import wanted_by
from vmx.power import InvalidPowerState, PowerState
from vmx.rfb import RfbServer
from vmx.screenshot import take_screenshot
from vmx.serial import SerialCable
from vmx.snapshot_consolidate import LiveConsolidation
from vmx.snapshot_files import MachineFiles
from vmx.snapshot_live import LiveTaking
from vmx.snapshot_return import LiveReturn
from vmx.snapshots import find_snapshot, forget_snapshots, found, list_snapshots, list_strays
from vmx.stop import StopKind, StopReason
from vmx.suspend import suspend_soon
from vmx.vmx_settings import VmxSettings, set_resume_from

LOOK_S = 0.1
KEYS_S = 10.0
NS_PER_S = 1_000_000_000


class RunningMachine:
    """The plug between a machine and its control socket: a vmx.machine_actions.MachineActions."""

    def __init__(self, machine: Machine, settings: VmxSettings, log: Log) -> None:
        self.log = log
        self.returning: LiveReturn | None = None  # what the machine ends for, if it is for a return to a snapshot
        self._gone = threading.Event()
        self._present = threading.Lock()  # held while the machine is looked at without an action being under way
        self.take_over(machine, settings)

    def take_over(self, machine: Machine, settings: VmxSettings) -> None:
        """In the place of the machine that was there before, and has ended."""
        with self._present:
            self.machine, self.settings = machine, settings
            self.input = InputQueue(machine.board.keyboard_controller, machine.lock, machine.board.backdoor.pointer)
            self.vnc: RfbServer | None = None
            self._stopped, self._ended = threading.Event(), threading.Event()
            self._state = PowerState.ON

    def start_console(self) -> None:
        """Keys and mouse, and the remote screen if one is wanted. Raises HostRefused and BadOption."""
        self.input.start()
        wanted = self.settings.config.vnc
        if wanted is None:
            return
        where = f"[{wanted.address}]:{wanted.port}" if ":" in wanted.address else f"{wanted.address}:{wanted.port}"
        with wanted_by(wanted.origin):
            self.vnc = RfbServer(
                where, wanted.password or None, self.machine.board.picture(), self.input, self.machine.lock,
                self.log.write, self.settings.config.name,
            )  # fmt: skip
            self.vnc.start()
        self.log.write(f"VNC listening on {self.vnc.address}")

    def stopped(self) -> None:
        """No vCPU runs any more: whoever waits for the machine to rest need not."""
        self._stopped.set()

    def ended(self) -> None:
        """The run is over: whoever waits for something need not. Gives back what `start_console` took."""
        with self._present:
            self._ended.set()
        if self.vnc is not None:
            self.vnc.close()
        self.input.close()

    def gone(self) -> None:
        """No machine takes this one's place: whoever waits for one need not."""
        self._gone.set()

    # what may be asked at any time

    def power_state(self) -> PowerState:
        return PowerState.OFF if self._ended.is_set() and self._state is PowerState.ON else self._state

    def status(self) -> MachineStatus:
        with self._present:
            return self._between() if self._ended.is_set() else self._status()

    def _between(self) -> MachineStatus:
        """There is no machine, or none yet again."""
        config = self.settings.config
        return MachineStatus(
            config.name, self.power_state(), vmx=str(self.settings.file.path.absolute()), pid=os.getpid(),
            vcpus=config.vcpus, memory_mib=config.memory_mib, devices=configured_devices(config),
            unknown_keys=self.settings.unknown,
        )  # fmt: skip

    def _status(self) -> MachineStatus:
        config, machine = self.settings.config, self.machine
        stop = machine.stopping
        return MachineStatus(
            config.name, self.power_state(), vmx=str(self.settings.file.path.absolute()), pid=os.getpid(),
            engine=machine.vcpu.engine.name, vcpus=config.vcpus, memory_mib=config.memory_mib,
            uptime_s=machine.interrupts.now_ns / NS_PER_S, vnc=self.vnc.address if self.vnc else "",
            devices=self._devices(), unknown_keys=self.settings.unknown, stop_reason=stop.line() if stop else "",
            question=machine.questions.text,
        )  # fmt: skip

    def _devices(self) -> tuple[DeviceStatus, ...]:
        return tuple(self._device_now(device) for device in configured_devices(self.settings.config))

    def _device_now(self, device: DeviceStatus) -> DeviceStatus:
        backend = self._find(device.device)
        if isinstance(backend, SerialCable):
            return DeviceStatus(device.device, device.kind, backend.connected, backend.where)
        if isinstance(backend, DiscTray | FloppySlot):
            return DeviceStatus(device.device, device.kind, backend.connected, str(backend.path or ""))
        return device

    def console(self) -> ConsoleInfo:
        cable = self._find("serial0")
        return ConsoleInfo(
            self.vnc.address if self.vnc else "", cable.where if isinstance(cable, SerialCable) else ""
        )

    # power

    def start(self) -> None:
        raise InvalidPowerState("start", self.power_state())

    def resume(self) -> None:
        raise InvalidPowerState("resume", self.power_state())

    def stop(self, *, hard: bool) -> None:
        if hard:
            self.machine.stop(StopReason(StopKind.SWITCHED_OFF))
            with self.machine.lock:
                self.machine.questions.leave_open()
        else:
            self.machine.interrupts.pm_event(Pm1.PWRBTN)

    def reset(self) -> None:
        self._at_rest(self.machine.reset_now)

    def suspend(self) -> None:
        """Into a file in the machine's folder, which the .vmx file then names."""
        path = self.settings.suspend_folder / f"{self.settings.file.path.stem}-{secrets.token_hex(4)}.vmss"
        failures: list[RingfenceError] = []
        done = threading.Event()

        def failed(error: RingfenceError) -> None:
            with suppress(OSError):
                path.unlink()
            failures.append(error)
            done.set()

        def saved() -> None:
            set_resume_from(self.settings, path)  # before the machine ends: a state that no file names is lost
            self._state = PowerState.SUSPENDED
            done.set()

        started = time.monotonic()
        suspend_soon(self.machine, path, failed, saved)
        self._wait(done)
        if failures:
            raise failures[0]
        self.log.write(f"SUSPEND {path} in {time.monotonic() - started:.1f} s")

    # devices

    def connect(self, device: str, path: Place | None) -> None:
        backend = self._named(device)
        with self.machine.lock:
            if isinstance(backend, SerialCable):
                if path is not None:
                    raise BadOption(f"{device}: expected no file: a serial port keeps its far end")
                backend.plug()
            else:
                backend.connect(path)

    def disconnect(self, device: str) -> None:
        backend = self._named(device)
        with self.machine.lock:
            if isinstance(backend, SerialCable):
                backend.unplug()
            else:
                backend.disconnect()

    def eject(self, device: str, *, force: bool) -> None:
        backend = self._named(device)
        if not isinstance(backend, DiscTray):
            raise BadOption(f"{device}: expected a CD-ROM drive")
        with self.machine.lock:
            backend.eject(force=force)

    def _find(self, device: str) -> SerialCable | DiscTray | FloppySlot | None:
        attached = self.machine.attachments
        for index, end in enumerate(attached.serials):
            if device == f"serial{index}" and isinstance(end, SerialCable):
                return end
        if attached.floppy is not None and attached.floppy.name == device:
            return attached.floppy
        return next((tray for tray in attached.all_trays() if tray.name == device), None)

    def _named(self, device: str) -> SerialCable | DiscTray | FloppySlot:
        if (backend := self._find(device)) is None:
            known = [row.device for row in configured_devices(self.settings.config) if self._find(row.device)]
            raise BadOption(f"{device}: expected one of {', '.join(known) or 'no device: this machine has none'}")
        return backend

    # screen and keys

    def screenshot(self, path: Path) -> None:
        take_screenshot(self.machine.board.picture(), self.machine.lock, path)

    def send_keys(self, text: str) -> None:
        self.input.type_keys(strokes_of([text]))
        if not self.input.wait_until_taken(KEYS_S):
            raise HostRefused(f"send-keys: the guest has not taken all keys after {KEYS_S:g} s")

    # snapshots

    def list_snapshots(self) -> tuple[SnapshotRow, ...]:
        return list_snapshots(self.settings.file.path)

    def take_snapshot(self, name: str, description: str, *, memory: bool) -> TakenSnapshot:
        taking = LiveTaking(self.machine, MachineFiles(self.settings.file), name, description, memory=memory)
        taking.begin()
        try:
            self._at_rest(taking.freeze)
            taken = taking.finish()
        except RingfenceError:
            taking.give_up()
            raise
        self.log.write(f"SNAPSHOT {taken.uid} {taken.name!r}: the machine stood still for {taken.stun_ms:.1f} ms")
        return taken

    def revert_snapshot(self, snapshot: str) -> Returned:
        vmx = self.settings.file.path
        returning = LiveReturn(MachineFiles(self.settings.file), find_snapshot(vmx, snapshot))
        self.returning = returning
        self.machine.stop(StopReason(StopKind.RETURNED))
        return returning.wait(self._gone.is_set)

    def delete_snapshot(self, snapshot: str, *, children: bool) -> Deleted:
        files = self._files_of_running()
        uid = find_snapshot(self.settings.file.path, snapshot)
        found(files.tree, uid)
        return self._forget(files, files.tree.descendants(uid) if children else [uid])

    def delete_all_snapshots(self) -> Deleted:
        files = self._files_of_running()
        return self._forget(files, [snapshot.uid for snapshot in files.tree.snapshots])

    def consolidate(self) -> Deleted:
        files = self._files_of_running()
        list_strays(files)
        return self._fold(files)

    def _files_of_running(self) -> MachineFiles:
        files = MachineFiles(self.settings.file)
        files.tidy(running=True)
        return files

    def _forget(self, files: MachineFiles, uids: list[int]) -> Deleted:
        forget_snapshots(files, uids)
        return self._fold(files)

    def _fold(self, files: MachineFiles) -> Deleted:
        folding = LiveConsolidation(self.machine, files, self._at_rest, self._stopped.is_set)
        try:
            folding.run()
        finally:
            if folding.stuns_ms:
                times = ", ".join(f"{stun:.1f}" for stun in folding.stuns_ms)
                self.log.write(f"SNAPSHOT links folded: the machine stood still for {times} ms")
        return Deleted(tuple(folding.stuns_ms))

    # questions

    def answer(self, word: str) -> None:
        with self.machine.lock:
            self.machine.questions.answer(word)

    # waiting

    def _at_rest(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self.machine.at_rest(act)
        self._wait(done)

    def _wait(self, done: threading.Event) -> None:
        while not done.wait(LOOK_S):
            if (self._stopped.is_set() or self._ended.is_set()) and not done.is_set():
                raise HostRefused("the machine ended before that")
