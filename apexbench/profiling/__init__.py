"""From measurements of this host to its device profile: fits, constants, files; measures nothing.

`apexbench.engine.executors.profiling` measures; `apexbench profile` is the command.
"""
