"""Engines: ways to run guest instructions, all with the contract of contract.py; named.py tells them by name.

`interp` runs anywhere and is the reference; `world` is the same interpreter in a process of its own; `direct` is a
world that runs rings 1 to 3 on the host processor. `auto` takes the fastest engine that works on this host.
"""
