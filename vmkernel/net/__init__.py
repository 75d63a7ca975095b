"""The VMkernel's network stack: virtual switches, port groups, uplinks, and the file that says which there are."""
