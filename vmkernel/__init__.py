"""One host's resources, shared among its machines: processor time, memory, storage and networks. Not built yet."""
