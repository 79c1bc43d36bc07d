"""Requests to serve: arrival processes, length distributions, presets and trace readers."""

if __name__ != "apexbench.workloads":
    raise ImportError(
        "import 'apexbench.workloads', not 'workloads': the bare name is not installed"
    )
