"""The Network Block Device protocol: a disk served to NBD clients."""
