"""The real guests as fixtures. Where Debian's packages cannot be had a test skips and says why; under CI it fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from tests.realguests import fetch, iso
from tests.realguests.packages import PackagesUnavailable

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


def or_skip(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """`make`, which skips the test where the packages are not to be had."""

    @wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        try:
            return make(*args, **kwargs)
        except PackagesUnavailable as error:
            reason = f"no real guests: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return made


@pytest.fixture(scope="session")
def raw_boot() -> Callable[..., iso.Boot]:
    """boot(flavour, append): the kernel without decompressor, its initramfs, the command line."""
    return or_skip(fetch.boot_files)


@pytest.fixture(scope="session")
def stock_boot() -> Callable[[str, str], iso.Boot]:
    """The same with Debian's own vmlinuz and signed modules, exactly as shipped."""

    def boot(flavour: str, append: str) -> iso.Boot:
        return fetch.boot_files(flavour, append, stock=True)

    return or_skip(boot)


@pytest.fixture(scope="session")
def raw_kernel() -> Callable[[str], Path]:
    """raw_kernel(flavour): the file."""
    return or_skip(lambda flavour: fetch.kernel(flavour) / fetch.RAW)


@pytest.fixture(scope="session")
def stock_kernel() -> Callable[[str], Path]:
    return or_skip(lambda flavour: fetch.kernel(flavour) / fetch.STOCK)


@pytest.fixture(scope="session")
def elf_kernel() -> Callable[[str], Path]:
    """The plain vmlinux."""
    return or_skip(lambda flavour: fetch.kernel(flavour) / fetch.ELF)


@pytest.fixture(scope="session")
def initramfs() -> Callable[[str], Path]:
    return or_skip(lambda flavour: fetch.kernel(flavour) / fetch.INITRAMFS)


@pytest.fixture(scope="session")
def isolinux_iso() -> Callable[..., Path]:
    """isolinux_iso(flavour, append, stock=False)."""
    return or_skip(fetch.isolinux_iso)


@pytest.fixture(scope="session")
def grub_iso() -> Callable[..., Path]:
    """grub_iso(flavour, append, stock=False): boots as a CD and as a hard disk."""
    return or_skip(fetch.grub_iso)


@pytest.fixture(scope="session")
def data_iso() -> Path:
    return or_skip(fetch.data_iso)()


@pytest.fixture(scope="session")
def memtest() -> Path:
    """memtest86+ for a loader of the Linux boot protocol."""
    return or_skip(fetch.memtest)()


@pytest.fixture(scope="session")
def memtest_iso() -> Path:
    return or_skip(fetch.memtest_iso)()


@pytest.fixture(scope="session")
def seabios() -> Path:
    """The 256 KiB image."""
    return or_skip(fetch.seabios)()
