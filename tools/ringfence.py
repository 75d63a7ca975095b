"""`ringfence`: run a guest program, list and build the guests, debug one.

Exit status: the guest's own; 2 for bad input, options or a host that refuses; 3 after a triple fault; 4 when the engine
cannot go on; 124 when --timeout ends the run; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from ringfence.errors import BadOption, RingfenceError
from tools.process import as_process, complain

Verbs: TypeAlias = "argparse._SubParsersAction[Any]"
STATUS_BAD_INPUT = 2
STATUS_UNREAD = 1
EXIT_STATUSES = (
    "exit status: the guest's own; 2 bad input, option or host; 3 triple fault; 4 the engine cannot go on; "
    "124 --timeout; 130 Ctrl-C"
)

VMX_SUFFIX = ".vmx"
BESIDE_VMX = frozenset({
    "target", "action", "detached", "in_background", "no_reboot", "no_questions", "redo_logs", "timeout", "stats",
    "screen",
})  # fmt: skip
SERIAL_WORDS = "stdio, file:PATH, pty, unix:PATH, unix-client:PATH, tcp:HOST:PORT, tcp-client:HOST:PORT, none"

# Options whose value may begin with a dash, which argparse would take for another option.
DASHED_VALUES = frozenset({"--cpu-features", "--append"})


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does. Options are not abbreviated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise BadOption(message)


def mebibytes(text: str) -> int:
    """The value of --mem; its range is the machine's to check."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number of MiB, found {text!r}") from None


def processors(text: str) -> int:
    """The value of --vcpus; its range is the machine's to check."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of processors, found {text!r}") from None


def seconds(text: str) -> float:
    """The value of --timeout; its range is the machine's to check."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}") from None


def glue(arguments: Sequence[str]) -> list[str]:
    """`--cpu-features -sse2` as `--cpu-features=-sse2`."""
    glued: list[str] = []
    words = iter(arguments)
    for word in words:
        value = next(words, None) if word in DASHED_VALUES else None
        glued.append(word if value is None else f"{word}={value}")
    return glued


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """For these arguments: where they begin with a verb, that verb alone is made and its module imported."""
    top = OneLineParser(prog="ringfence", description="Run 32-bit guests on a monitor of their own.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = arguments[0] if arguments and arguments[0] in VERBS else None
    for name, add in VERBS.items():
        if wanted in (None, name):
            add(verbs, arguments[1:])
    return top


def add_run(verbs: Verbs, words: Sequence[str]) -> None:
    what = "run a guest's name, a multiboot or plain 32-bit ELF, or firmware"
    run = verbs.add_parser("run", help=what, epilog=EXIT_STATUSES)
    add_machine_options(run)
    run.add_argument("--detached", action="store_true", help="with a .vmx file: run in the background")
    run.add_argument("--in-background", action="store_true", help=argparse.SUPPRESS)  # what that starts
    run.set_defaults(action=run_verb)


def add_debug(verbs: Verbs, words: Sequence[str]) -> None:
    debug = verbs.add_parser("debug", help="run a program under a GDB remote stub", epilog=EXIT_STATUSES)
    add_machine_options(debug)
    debug.add_argument("--gdb", default="tcp:1234", metavar="WHERE", help="tcp:PORT or unix:PATH (default %(default)s)")
    debug.add_argument("--wait", action="store_true", help="run nothing before the first gdb is there")
    debug.set_defaults(action=debug_verb)


def add_guests(verbs: Verbs, words: Sequence[str]) -> None:
    guests = verbs.add_parser("guests", help="list the guest programs, and build them")
    guests.add_argument("--json", action="store_true", help="as JSON, with --build also the paths")
    guests.add_argument("--build", action="store_true", help="build every guest into the cache")
    guests.set_defaults(action=guests_verb)


def add_vm(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.vm import add_vm_verb

    add_vm_verb(verbs)


def add_host(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.host import add_host_verb

    add_host_verb(verbs)


def add_disk(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.disk import add_disk_verb

    add_disk_verb(verbs, words)


def add_vmfs(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.vmfs import add_vmfs_verb

    add_vmfs_verb(verbs, words)


def add_datastore(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.datastore import add_datastore_verb

    add_datastore_verb(verbs)


def add_switch(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.switch import add_switch_verb

    add_switch_verb(verbs)


def add_kernel(verbs: Verbs, words: Sequence[str]) -> None:
    from tools.kernel import add_kernel_verb

    add_kernel_verb(verbs)


# In the order of --help. Each adds its parser, given the words behind the verb.
VERBS: dict[str, Callable[[Verbs, Sequence[str]], None]] = {
    "run": add_run, "debug": add_debug, "vm": add_vm, "guests": add_guests, "host": add_host, "disk": add_disk,
    "vmfs": add_vmfs, "datastore": add_datastore, "switch": add_switch, "kernel": add_kernel,
}  # fmt: skip


def add_machine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("target", nargs="?", metavar="TARGET", help="a guest's name or the path of a program")
    verb.add_argument("--engine", default="auto", metavar="NAME", help="interp, world, direct, or auto (default)")
    verb.add_argument("--mem", type=mebibytes, default=64, metavar="MIB", help="memory, 2 to 3072 MiB (default 64)")
    verb.add_argument("--cpu-features", default="", metavar="LIST", help="CPUID mask, such as -sse2,-pae,+hypervisor")
    verb.add_argument("--vcpus", type=processors, default=1, metavar="N", help="processors, 1 to 4 (default 1)")
    verb.add_argument("--serial", default="stdio", metavar="WHERE", help=f"COM1: {SERIAL_WORDS}")
    verb.add_argument("--serial2", default="none", metavar="WHERE", help="COM2, likewise (default none)")
    verb.add_argument("--parallel", default="none", metavar="WHERE", help="LPT1: file:PATH, pipe:PATH, none")
    verb.add_argument("--append", default="", metavar="TEXT", help="the program's or kernel's command line")
    verb.add_argument("--kernel", metavar="FILE", help="a Linux kernel (bzImage or vmlinux) instead of TARGET")
    verb.add_argument("--initrd", metavar="FILE", help="its initial RAM disk")
    verb.add_argument("--bios", metavar="FILE", help="raw firmware image, started at the reset vector")
    verb.add_argument("--disk", action="append", default=[], metavar="FILE", help="IDE disk, a VMDK or bare sectors")
    verb.add_argument("--scsi", action="append", default=[], metavar="FILE", help="SCSI disk, likewise; up to 15")
    verb.add_argument("--scsi-adapter", default="lsilogic", metavar="KIND", help="lsilogic (default) or buslogic")
    verb.add_argument("--no-questions", action="store_true", help="do not wait for room: a full host fails the write")
    redo = "at power-off, what undoable disks have in their redo logs: keep, commit, discard, or as the .vmx file says"
    verb.add_argument("--redo-logs", choices=("keep", "commit", "discard"), default="", metavar="WORD", help=redo)
    verb.add_argument("--cdrom", metavar="FILE", help="disc in the CD-ROM drive, an ISO image")
    verb.add_argument("--no-reboot", action="store_true", help="end the run when the guest resets the machine")
    verb.add_argument("--vnc", metavar="WHERE", help="remote screen on PORT of this host, HOST:PORT or unix:PATH")
    verb.add_argument("--timeout", type=seconds, metavar="SECONDS", help="end the run after this time with status 124")
    verb.add_argument("--stats", action="store_true", help="afterwards, what the run was made of")
    verb.add_argument("--trace", default="", metavar="KINDS", help="print events: io,irq,fault,cr,int or all")
    verb.add_argument("--screen", action="store_true", help="show the text screen at B8000")


def run_verb(options: argparse.Namespace) -> int:
    from tools.targets import disk_of, own_copy, resolve
    from vmx.command import check_timeout, run_command, say

    if (options.target or "").endswith(VMX_SUFFIX):
        from vmkernel.storage.datastores import resolve as resolve_place
        from vmx.vm_process import run_vmx

        refuse_beside_vmx(options)
        check_timeout(options.timeout)
        if options.detached:
            return run_detached(options)
        return run_vmx(resolve_place(options.target), options, say)
    if options.detached or options.in_background:
        raise BadOption("--detached: expected with a .vmx file only")
    if (image := disk_of(options.target)) is not None:
        with own_copy(image) as disk:
            options.scsi.insert(0, str(disk))
            options.append = ""  # there is no loader that could hand it over
            return run_command(options, None)
    return run_command(options, resolve(options.target))


def run_detached(options: argparse.Namespace) -> int:
    """Start the machine's process, and leave it to itself once it runs."""
    from vmkernel.storage.datastores import resolve
    from vmx.detached import ringfence_command, start_detached
    from vmx.registry import Registry

    if options.stats:
        raise BadOption("--stats: expected without --detached: there is no terminal in the background")
    words = [*["--no-reboot"] * options.no_reboot, *["--no-questions"] * options.no_questions]
    if options.redo_logs:
        words.append(f"--redo-logs={options.redo_logs}")
    if options.timeout is not None:
        words.append(f"--timeout={options.timeout}")
    vmx = resolve(options.target)
    start_detached(ringfence_command(vmx, *words), vmx, Registry.of_user())
    return 0


def refuse_beside_vmx(options: argparse.Namespace) -> None:
    """What the file itself says is not for the command line too. Raises BadOption."""
    words = ["run", options.target]
    usual = parser(words).parse_args(words)
    for name in vars(options):
        if name not in BESIDE_VMX and getattr(options, name) != getattr(usual, name):
            raise BadOption(f"--{name.replace('_', '-')}: expected in {options.target}, not beside it")


def debug_verb(options: argparse.Namespace) -> int:
    from tools.targets import resolve
    from vmx.command import debug_command

    return debug_command(options, resolve(options.target))


def guests_verb(options: argparse.Namespace) -> int:
    from tools.targets import guests_text

    print(guests_text(as_json=options.json, build=options.build))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options. Raises BadOption, and SystemExit after --help."""
    try:
        return parser(arguments).parse_args(glue(arguments))
    except SystemExit:
        sys.stdout.flush()
        raise


def act(arguments: Sequence[str]) -> int:
    """Parse and do it. Whatever cannot be done is one line on stderr."""
    try:
        options = parse(arguments)
        action: Callable[[argparse.Namespace], int] = options.action
        status = action(options)
        sys.stdout.flush()
        return status
    except RingfenceError as error:
        complain(str(error))
    except BrokenPipeError:
        return STATUS_UNREAD  # the reader of our output has gone, and needs no telling
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        complain(f"{what}the host refused: {error.strerror or error}")
    except MemoryError:
        complain("the host has no memory left for this")
    except ImportError as error:
        complain(f"a library cannot be loaded: {error.__cause__ or error}")
    return STATUS_BAD_INPUT


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: the exit status."""
    return as_process(lambda: act(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
