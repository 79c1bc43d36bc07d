"""Predictions that need no traffic: one step op by op, and steady states. Runs no scheduler."""
