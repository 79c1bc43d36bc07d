"""`python -m apexbench.cpu_kernels.bench`."""

import sys

from apexbench.cpu_kernels.bench.command import main

sys.exit(main())
