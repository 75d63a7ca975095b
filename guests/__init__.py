"""Small programs that run on a bare PC: each shows one part of the architecture, checks it, and powers off.

`builder` lists them and builds them from source, on demand, into the user's cache.
"""

from guests.builder import BuildFailed, Guest, UnknownGuest, build, build_flat, build_native, list_guests

__all__ = ["BuildFailed", "Guest", "UnknownGuest", "build", "build_flat", "build_native", "list_guests"]
