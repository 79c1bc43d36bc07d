"""apexbench: should decode attention be shared with the CPU on this GPU, and what does it buy?"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from apexbench.result import load


def __getattr__(name: str) -> object:
    """`apexbench.load` on first use: importing the package must cost nothing."""
    if name == "load":
        from apexbench.result import load  # noqa: PLC0415

        return load
    raise AttributeError(f"module 'apexbench' has no attribute '{name}'")
