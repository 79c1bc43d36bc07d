"""Scheduler, policies, step program, cost model and executors of the reference hybrid engine."""

if __name__ != "apexbench.engine":
    raise ImportError("import 'apexbench.engine', not 'engine': the bare name is not installed")
