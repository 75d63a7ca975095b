"""One host's resources, shared among its machines. Built so far: storage, which is virtual disks and their chains."""
