"""VMDK: the descriptor, and one file for each kind of extent."""
