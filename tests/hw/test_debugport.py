"""Ports 402h and F4h."""

from hw.debugport import DebugPort, ExitPort


def test_the_debug_port_answers_e9_and_logs_bytes() -> None:
    log: list[int] = []
    port = DebugPort(log.append)
    assert port.port_read(0, 1) == 0xE9
    for byte in b"ok":
        port.port_write(0, 1, byte)
    assert bytes(log) == b"ok"


def test_the_exit_port_ends_the_run_with_its_byte() -> None:
    class Power:
        status = -1

        def power_off(self) -> None:
            raise AssertionError

        def exit_with(self, status: int) -> None:
            self.status = status

    power = Power()
    port = ExitPort(power)
    assert port.port_read(0, 1) == 0xFF
    port.port_write(0, 1, 42)
    assert power.status == 42
