"""What an uplink of a virtual switch leads to: a TAP, an interface of the host, another host's switch, or a NAT."""
