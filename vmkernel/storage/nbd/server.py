"""An NBD server: one disk for several clients, on a socket that listens already.

Each connection has a thread, and the disk's own lock keeps them apart. The socket decides who may connect: NBD itself
asks for no name. Nothing that a client sends or leaves out ends more than its own connection.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from contextlib import suppress

from vmkernel.storage.nbd.export import Export
from vmkernel.storage.nbd.handshake import HANDSHAKE_S, negotiate
from vmkernel.storage.nbd.stream import STALL_S, Ended, Stream
from vmkernel.storage.nbd.transmission import Transmission

CONNECTIONS_MAX = 32
ACCEPT_RETRY_S = 0.1
CLOSE_S = 5.0  # what is under way has this long at the end


class NbdServer:
    """Serves from `serve` until `close`, or with `once` until the last client has left.

    A client that only asked what there is does not count for `once`. `trouble` is what went wrong unexpectedly.
    """

    def __init__(
        self,
        export: Export,
        listener: socket.socket,
        *,
        once: bool = False,
        handshake_s: float = HANDSHAKE_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.export, self.trouble = export, ""
        self._listener, self._once = listener, once
        self._handshake_s, self._stall_s = handshake_s, stall_s
        self._lock = threading.Lock()
        self._streams: dict[Stream, threading.Thread] = {}
        self._was_used = False
        self._is_idle = threading.Event()  # no thread is in `serve`
        self._is_idle.set()
        listener.setblocking(False)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> NbdServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serve(self) -> None:
        """Until `close` is called, by another thread, or `once` is fulfilled."""
        self._is_idle.clear()
        try:
            self._wait_for_clients()
        finally:
            self._is_idle.set()

    def _wait_for_clients(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self.export.closing.is_set() and not self._is_done():
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        with suppress(BlockingIOError):
                            os.read(self._wake_read, 4096)

    def close(self) -> None:
        """Let requests that are under way be answered, refuse what follows, and let go of all clients. Idempotent.

        The disk and the listening socket stay the caller's; nobody uses the disk any more.
        """
        with self._lock:
            self.export.closing.set()
            self._wake()
            streams = dict(self._streams)
        for stream in streams:
            stream.shut(socket.SHUT_RD)
        end = time.monotonic() + CLOSE_S
        for thread in streams.values():
            thread.join(max(end - time.monotonic(), 0))
        for stream, thread in streams.items():
            stream.shut(socket.SHUT_RDWR)
            thread.join()
        self._is_idle.wait()
        with self._lock:
            if self._wake_read >= 0:
                os.close(self._wake_read)
                os.close(self._wake_write)
                self._wake_read = self._wake_write = -1

    def _is_done(self) -> bool:
        with self._lock:
            return self._once and self._was_used and not self._streams

    def _wake(self) -> None:
        """With the lock held."""
        if self._wake_write >= 0:
            with suppress(BlockingIOError):  # it has been woken already
                os.write(self._wake_write, b"x")

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor left for it now
            time.sleep(ACCEPT_RETRY_S)
            return
        with self._lock:
            if self.export.closing.is_set() or len(self._streams) >= CONNECTIONS_MAX:
                connection.close()
                return
            try:
                stream = Stream(connection, self._stall_s)
                thread = threading.Thread(target=self._client, args=(stream,), name="nbd", daemon=True)
                thread.start()
            except (OSError, RuntimeError):  # it is gone already, or the host gives no thread
                connection.close()
            else:
                self._streams[stream] = thread

    def _client(self, stream: Stream) -> None:
        """One connection from beginning to end."""
        was_used = False
        try:
            agreed = negotiate(stream, self.export, self._handshake_s)
            if agreed is not None:
                was_used = True
                Transmission(stream, self.export, agreed).serve()
        except Ended:
            pass
        except Exception as error:  # noqa: BLE001 - one client's request must not end the others' service
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            stream.close()
            with self._lock:
                self._streams.pop(stream, None)
                self._was_used |= was_used
                self._wake()
