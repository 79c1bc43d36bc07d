"""Comparing policies: from a configuration to a result document. Prints nothing, exits never."""
