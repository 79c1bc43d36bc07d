"""Executors run a step program; they alone differ between the simulator and real hardware."""
