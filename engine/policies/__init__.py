"""Policies decide what goes where in each step; one small class each, registered by name."""
