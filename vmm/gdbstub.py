"""The GDB remote stub: gives one machine to one GDB after another, and lets it run between two of them.

gdb_packets is the wire, gdb_link a connection, gdb_session what GDB asks, gdb_registers and gdb_target_spec the
registers, gdb_monitor the `monitor` commands, gdb_wiring what all this needs of a machine.
"""

from __future__ import annotations

import queue
import socket
import threading

from vmm.gdb_link import Link
from vmm.gdb_session import Session, Verdict
from vmm.gdb_wiring import LOOK_S, Cause, Debuggee, Stop


class Server:
    """Listens, and gives the machine to one GDB after another; between two of them it runs."""

    def __init__(self, listener: socket.socket, machine: Debuggee) -> None:
        self._listener, self._machine = listener, machine
        self._incoming: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._free = threading.Semaphore(1)  # held while a GDB has the machine; the next one waits outside
        self._thread = threading.Thread(target=self._accept, name="gdb listener", daemon=True)

    def serve(self, *, wait: bool) -> Stop:
        """Until the machine ends or is killed. With `wait`, nothing runs before the first GDB is there."""
        self._thread.start()
        stop = Stop(Cause.INTERRUPTED)
        waiting = wait
        while stop.cause is not Cause.ENDED:
            if not waiting:
                stop = self._machine.resume()
                if stop.cause is Cause.ENDED:
                    break
                if stop.cause is Cause.INTERRUPTED and self._incoming.empty():
                    continue
            try:  # after a crash too: it waits for somebody to look
                connection = self._incoming.get(timeout=LOOK_S)
            except queue.Empty:
                waiting, stop = True, self._machine.ended() or stop
                continue
            waiting = False
            stop = self._session(connection, stop)
        return stop

    def _session(self, connection: socket.socket, stop: Stop) -> Stop:
        self._machine.forget_interrupt()
        link = Link(connection, self._machine.interrupt)
        session = Session(link, self._machine)
        session.stop = stop
        try:
            verdict = session.run()
        finally:
            link.close()
            self._machine.forget_interrupt()
            self._free.release()
        if verdict is Verdict.KILLED:
            return Stop(Cause.ENDED, text="killed by the debugger")
        if session.stop.cause is Cause.CRASHED:
            return Stop(Cause.ENDED, status=session.stop.status)
        return session.stop if verdict is Verdict.ENDED else Stop(Cause.INTERRUPTED)

    def _accept(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if connection.family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._incoming.put(connection)
            self._machine.interrupt()
