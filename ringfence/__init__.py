"""What every folder may import: the package's own exceptions and the declaration helpers. Imports nothing of ours."""
