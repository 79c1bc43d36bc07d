"""GPU kernels in Triton; no other package but the executors imports them."""

if __name__ != "apexbench.triton_kernels":
    raise ImportError(
        "import 'apexbench.triton_kernels', not 'triton_kernels': the bare name is not installed"
    )
