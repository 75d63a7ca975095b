"""The monitor: runs the guest instructions of one virtual machine.

The C core (vmm/core, the extension vmm._core) executes; the modules here start it, show it and name its parts:
vcpu.py runs one virtual CPU until an exit, memory.py is guest physical memory, shadow.py and interrupts.py look into
the core's tables, state.py is the file in which all guest-visible state lies.
"""
