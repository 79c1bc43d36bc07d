"""CPU decode-attention kernels in C; no other package but the executors imports them."""

if __name__ != "apexbench.cpu_kernels":
    raise ImportError(
        "import 'apexbench.cpu_kernels', not 'cpu_kernels': the bare name is not installed"
    )
