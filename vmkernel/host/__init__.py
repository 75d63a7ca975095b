"""The VMkernel's process: one for a host and user, which machines and commands reach by a Unix socket."""
