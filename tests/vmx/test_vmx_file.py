"""The grammar of .vmx files: what is read, what is refused, what a rewrite leaves alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, HostRefused
from vmx.vmx_file import FILE_BYTES_MAX, VmxFile

CORPUS = Path(__file__).parents[1] / "fuzz" / "vmx"


def parse(text: str | bytes) -> VmxFile:
    return VmxFile.parse(text.encode() if isinstance(text, str) else text, Path("m.vmx"))


def notes(file: VmxFile) -> list[str]:
    return [str(note) for note in file.notes]


def test_a_key_is_found_whatever_its_case() -> None:
    file = parse('memSize = "64"\n')
    assert file.get("memsize") == file.get("MEMSIZE") == "64"
    assert "MemSize" in file
    assert file.get("numvcpus", "1") == "1"


def test_a_key_that_begins_like_another_is_another() -> None:
    file = parse('checkpoint.vmState = "a"\ncheckpoint.vmState.readOnly = "TRUE"\n')
    assert (file.get("checkpoint.vmState"), file.get("checkpoint.vmState.readOnly")) == ("a", "TRUE")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('k = "v"', "v"),
        ('k="v"', "v"),
        ('  k\t=  "v"  ', "v"),
        ('k = "v" # said', "v"),
        ('k = ""', ""),
        ('k = " v "', " v "),
        ('k = "a # b = c"', "a # b = c"),
        ('k = "|22x|22"', '"x"'),
        ('k = "|7C|7c"', "||"),
        ('k = "a|0Ab"', "a\nb"),
        ('k = "a|zz|"', "a|zz|"),
        ('k = "|C3|A9"', "é"),
        ('k = "|E9"', "\udce9"),
        ('k = "C:\\a\\b"', "C:\\a\\b"),
    ],
)
def test_a_value_is_what_its_quotes_hold(line: str, value: str) -> None:
    file = parse(line)
    assert file.get("k", "nothing") == value
    assert not file.notes


def test_a_value_without_quotes_is_taken_with_a_warning() -> None:
    file = parse("a = b c  # d\ne =\n")
    assert (file.get("a"), file.get("e", "nothing")) == ("b c", "")
    assert [note.split(": ")[0] for note in notes(file)] == ["m.vmx:1", "m.vmx:2"]


def test_of_two_the_first_counts_and_the_second_is_a_warning() -> None:
    file = parse('a = "1"\n\nA = "2"\n')
    assert file.get("a") == "1"
    assert notes(file) == ["m.vmx:3: A: is already in line 1, which counts"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\nnonsense\n", "m.vmx:3: line: expected key = \"value\", found 'nonsense'"),
        ('= "v"', "m.vmx:1: line"),
        ('a b = "v"', "m.vmx:1: line"),
        ('é = "v"', "m.vmx:1: line"),
        ('a = "v', "m.vmx:1: a: expected a closing quote"),
        ('a = v"w"', "m.vmx:1: a: expected a value in quotes"),
        ('a = "v" w', "m.vmx:1: a: expected nothing after the closing quote"),
        ('a = "say "hi""', "m.vmx:1: a: expected nothing after the closing quote"),
        ('a = "|00"', "m.vmx:1: a: expected characters, found a NUL byte"),
        (b'\n\xff\xfea\0=\0"\0', "m.vmx:2: text: expected characters, found a NUL byte"),
        ('.encoding = "UTF-16"', "m.vmx:1: .encoding"),
        ('\n.encoding = "zlib"', "m.vmx:2: .encoding"),
        (b"#" * (FILE_BYTES_MAX + 1), "m.vmx: length"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(text: str | bytes, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("encoding", "raw", "value"),
    [
        ("UTF-8", b"\xc3\xb6", "ö"),
        ("windows-1252", b"\xf6\x80", "ö€"),
        ("ISO-8859-15", b"\xa4", "€"),
        ("Shift_JIS", b"\x83\x7c", "ポ"),
        ("GBK", b"\xd6\xd0", "中"),
        ("windows-936", b"\xd6\xd0", "中"),
    ],
)
def test_characters_are_those_of_the_declared_encoding(encoding: str, raw: bytes, value: str) -> None:
    file = parse(b'name = "' + raw + b'"\n.encoding = "' + encoding.encode() + b'"\n')
    assert file.get("name") == value
    file.set("other", value + "|")
    assert parse(file.to_bytes()).get("other") == value + "|"


def test_bytes_that_are_no_characters_come_through() -> None:
    file = parse(b'fileName = "a\xff.iso"\n')
    assert os.fsencode(file.get("fileName")) == b"a\xff.iso"
    file.set("copy", file.get("fileName"))
    assert file.to_bytes().endswith(b'copy = "a\xff.iso"\n')


def test_a_change_touches_its_line_only() -> None:
    before = (CORPUS / "esx3.vmx").read_bytes()
    file = parse(before)
    file.set("MEMSIZE", "512")
    assert file.to_bytes() == before.replace(b'memsize = "256"', b'memsize = "512"')


def test_a_new_key_goes_to_the_end_in_the_files_line_ends() -> None:
    file = parse(b'a = "1"\r\nb = "2"')
    file.set("c", 'x"|\n\x7f')
    assert file.to_bytes() == b'a = "1"\r\nb = "2"\r\nc = "x|22|7C|0A|7F"\r\n'
    assert parse(file.to_bytes()).get("c") == 'x"|\n\x7f'


def test_a_change_leaves_one_line_of_a_key() -> None:
    file = parse('a = "1"\nb = "2"\nA = "3"\n')
    file.set("a", "4")
    assert file.to_bytes() == b'a = "4"\nb = "2"\n'
    file.remove("B")
    assert file.to_bytes() == b'a = "4"\n'


def test_what_is_set_to_what_it_is_stays_as_it_was_written() -> None:
    file = parse('a   =   "1"   # one\n')
    file.set("a", "1")
    assert file.to_bytes() == b'a   =   "1"   # one\n'


@pytest.mark.parametrize(
    ("key", "value"), [("a b", "1"), ("", "1"), ("a", "\0"), (".encoding", "UTF-8"), ("k", "日")]
)
def test_what_a_file_cannot_hold_is_refused(key: str, value: str) -> None:
    file = parse('.encoding = "windows-1252"\n')
    with pytest.raises(BadOption):
        file.set(key, value)
    assert file.to_bytes() == b'.encoding = "windows-1252"\n'


def test_a_rewrite_is_read_alike_by_another_program(tmp_path: Path) -> None:
    vmx = pytest.importorskip("dissect.hypervisor.descriptor.vmx", reason="needs the package dissect.hypervisor")
    path = tmp_path / "m.vmx"
    path.write_bytes((CORPUS / "esx3.vmx").read_bytes())
    file = VmxFile.read(path)
    file.set("numvcpus", "2")
    file.set("displayName", "web02")
    file.remove("nvram")
    file.write()
    assert vmx.VMX.parse(path.read_text()).attr == {line.key.lower(): line.value for line in file}


# the file


def test_a_write_keeps_the_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "m.vmx"
    path.write_text('a = "1"\n')
    path.chmod(0o640)
    file = VmxFile.read(path)
    file.set("a", "2")
    file.write()
    assert path.read_text() == 'a = "2"\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["m.vmx"]


def test_a_write_through_a_link_changes_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real.vmx").write_text("")
    (tmp_path / "m.vmx").symlink_to("real.vmx")
    file = VmxFile.read(tmp_path / "m.vmx")
    file.set("a", "1")
    file.write()
    assert (tmp_path / "m.vmx").is_symlink()
    assert (tmp_path / "real.vmx").read_text() == 'a = "1"\n'


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.vmx"
    path.write_text('a = "1"\n')
    file = VmxFile.read(path)
    file.set("a", "2")

    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(HostRefused, match="No space left"):
        file.write()
    assert path.read_text() == 'a = "1"\n'
    assert os.listdir(tmp_path) == ["m.vmx"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", "fifo", "."):
        with pytest.raises((BadInput, HostRefused), match=name if name != "." else str(tmp_path)):
            VmxFile.read(tmp_path / name)


def test_a_new_file_begins_as_esx_begins_it(tmp_path: Path) -> None:
    file = VmxFile.new(tmp_path / "m.vmx")
    file.set("config.version", "8")
    file.write()
    assert (tmp_path / "m.vmx").read_text() == '#!/usr/bin/vmware\nconfig.version = "8"\n'
