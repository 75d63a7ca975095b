"""One virtual machine: hardware plugged into an engine, loaded, run, and told about.

machine.py wires the parts, loader.py puts a program into memory, runner.py is the one loop that answers exits.
"""
