"""Disks: files, redo-log chains over them, and the formats that both are kept in."""
