"""Lanes on threads: runs step programs in wall-clock time; what an op does is the backend's."""
