"""How fast attention on this machine's CPUs is, beside how fast its memory can be read."""
