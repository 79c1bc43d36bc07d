"""What a comparison says of the hardware it runs on, modelled or real; knows neither."""

from typing import Protocol

from apexbench.engine.models import ModelShape
from apexbench.result import DeviceConstant


class Named(Protocol):
    """A device of the result document."""

    @property
    def name(self) -> str:
        """As documents and reports call it."""
        ...


class Hardware(Protocol):
    """One model on a GPU and a host; an `engine.deployment.Deployment` is one that is modelled."""

    @property
    def gpu(self) -> Named:
        """What the GPU lane is."""
        ...

    @property
    def gpu_count(self) -> int:
        """How many of them."""
        ...

    @property
    def host(self) -> Named:
        """Where the CPU lane and the host's KV are."""
        ...

    @property
    def model(self) -> ModelShape:
        """The model that is served."""
        ...

    @property
    def cpu_kernel(self) -> Named:
        """Whose CPU attention it is."""
        ...

    @property
    def cpu_threads(self) -> int:
        """Threads of the CPU lane."""
        ...

    @property
    def weight_dtype(self) -> str:
        """As in settings of a result."""
        ...

    @property
    def kv_dtype(self) -> str:
        """Of the GPU tier."""
        ...

    @property
    def cpu_kv_dtype(self) -> str:
        """Of the CPU tier."""
        ...

    @property
    def gpu_block_tokens(self) -> int:
        """Tokens in a KV block of the GPU tier."""
        ...

    @property
    def cpu_block_tokens(self) -> int:
        """Tokens in a KV block of the CPU tier."""
        ...

    @property
    def price_usd_per_hour(self) -> float | None:
        """What it costs; None where nobody rents it out."""
        ...

    def constants(self) -> tuple[DeviceConstant, ...]:
        """Every constant of a device that is known before the first run."""
        ...
