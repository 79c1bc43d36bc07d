"""Measures this host for its device profile; fits nothing and writes nothing."""
