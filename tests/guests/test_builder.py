"""The builder: what it lists, what it caches, what it refuses."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from guests import builder
from ringfence.errors import RingfenceError

EXPECTED = {
    "hello", "rings", "faults", "paging", "segments", "tasks", "v86", "irq", "selfmod", "syscalls", "nano", "compute",
    "minios", "paravirt", "backdoor",
}  # fmt: skip
MULTIBOOT_MAGIC = (0x1BADB002).to_bytes(4, "little")
ELF32_I386 = b"\x7fELF\x01\x01"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ringfence" / "guests"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A copy of the library and of `hello`, to be spoiled."""
    copy = tmp_path / "guests"
    shutil.copytree(builder.LIBRARY, copy / "lib")
    shutil.copytree(builder.HERE / "hello", copy / "hello")
    monkeypatch.setattr(builder, "HERE", copy)
    monkeypatch.setattr(builder, "LIBRARY", copy / "lib")
    return copy


def test_every_guest_is_listed_with_a_line() -> None:
    guests = {guest.name: guest for guest in builder.list_guests()}
    assert guests.keys() >= EXPECTED
    assert all(guest.purpose and "\n" not in guest.purpose for guest in guests.values())
    assert "scale=N" in guests["compute"].arguments


def test_a_guest_is_a_multiboot_elf(cache: Path) -> None:
    image = builder.build("hello")
    content = image.read_bytes()
    assert image.is_relative_to(cache)
    assert content.startswith(ELF32_I386)
    assert MULTIBOOT_MAGIC in content[:8192]


def test_a_guest_keeps_its_symbols(cache: Path) -> None:
    symbols = subprocess.run(["nm", builder.build("hello")], capture_output=True, text=True, check=True).stdout
    assert "guest_main" in symbols


def test_a_second_build_compiles_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = builder.build("hello")
    builder._compiler_version()
    monkeypatch.setattr(builder, "_run", lambda command, what: pytest.fail(f"ran {command}"))
    assert builder.build("hello") == first


def test_a_changed_source_is_built_anew(sources: Path) -> None:
    first = builder.build("hello")
    main = sources / "hello" / "main.c"
    main.write_text(main.read_text().replace("Hello", "Good day"))
    second = builder.build("hello")
    assert second != first
    assert b"Good day" in second.read_bytes()
    assert first.exists()


def test_a_changed_header_of_the_library_counts(sources: Path) -> None:
    first = builder.build("hello")
    header = sources / "lib" / "x86.h"
    header.write_text(header.read_text() + "\n")
    assert builder.build("hello") != first


def test_concurrent_builds_agree(cache: Path) -> None:
    built: list[Path] = []
    threads = [threading.Thread(target=lambda: built.append(builder.build("hello"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 4
    assert len(set(built)) == 1
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_an_unknown_guest_is_named() -> None:
    with pytest.raises(builder.UnknownGuest, match=r"'nosuch'.*hello"):
        builder.build("nosuch")
    assert issubclass(builder.UnknownGuest, RingfenceError)


def test_only_compute_runs_elsewhere() -> None:
    with pytest.raises(builder.UnknownGuest, match=r"hello has no native\.c"):
        builder.build_native("hello")


def test_a_compiler_error_is_told(sources: Path) -> None:
    (sources / "hello" / "main.c").write_text("this is not C\n")
    with pytest.raises(builder.BuildFailed, match=r"hello\.elf.*main\.c:1"):
        builder.build("hello")


def test_a_missing_compiler_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "COMPILER", "no-such-compiler")
    builder._compiler_version.cache_clear()
    try:
        with pytest.raises(builder.BuildFailed, match="cannot run no-such-compiler"):
            builder.build("hello")
    finally:
        builder._compiler_version.cache_clear()


def test_a_bad_description_is_told(sources: Path) -> None:
    (sources / "hello" / "guest.toml").write_text("purpose = \n")
    with pytest.raises(builder.BuildFailed, match=r"guest\.toml"):
        builder.list_guests()


def test_a_file_in_place_of_the_cache_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(builder.BuildFailed, match="cannot use the cache"):
        builder.build("hello")


def test_without_a_home_the_cache_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(builder.BuildFailed, match="expected HOME or XDG_CACHE_HOME"):
        builder.build("hello")


def no_home() -> Path:
    raise RuntimeError


def test_a_relative_cache_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert builder.cache_folder().is_relative_to(Path.home())


def test_an_empty_build_is_made_again(cache: Path) -> None:
    image = builder.build("hello")
    image.write_bytes(b"")
    assert builder.build("hello") == image
    assert image.read_bytes().startswith(ELF32_I386)


@pytest.mark.parametrize("compiler", ["/bin/true", "/nonexistent/gcc", "/bin/false"])
def test_what_is_no_compiler_is_told(compiler: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "COMPILER", compiler)
    builder._compiler_version.cache_clear()
    with pytest.raises(builder.BuildFailed, match=compiler):
        builder.build("hello")
    builder._compiler_version.cache_clear()
    assert not list(cache.glob("*"))
