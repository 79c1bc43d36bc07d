"""Predicted matrix products against tables of measured ones. Measures errors, fits nothing."""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from apexbench.engine.gemm import gemm
from apexbench.engine.hardware import GpuProfile
from apexbench.errors import InputError

# Up to here the weights bind a layer of any GPU in the profiles; beyond, its tensor cores begin to.
WEIGHT_BOUND_ROWS = 64

# What a table may prove, most first: the shares of peak and bandwidth in the profile
# were not taken from it; they come from public results that the profile does not name, so perhaps
# from it; the profile quotes a number of it.
UNSEEN, UNPROVEN, ANCHOR = STANDINGS = ("unseen", "unproven", "anchor")

# What the comment lines of a table say, in the order of the fields of MeasuredTable.
HEADERS = ("gpu", "repository", "path", "commit", "columns", "method", "standing", "why")
_SIZES = ("m", "n", "k")

# The constants of a profile that time a product of 16-bit weights; their digest shows a change.
CONSTANTS = (
    "peak_tflops",
    "dram_gb_per_s",
    "gemm_compute_efficiency",
    "gemm_memory_efficiency",
    "gemm_latency_us",
)
# One product for each part of the formula: start-up, memory, the corner, and compute. Six digits
# of their times also show a change of the formula, and hide how a platform rounds a power.
_PROBES = ((1, 8, 8), (1, 4096, 4096), (256, 4096, 4096), (4096, 4096, 4096))


@dataclass(frozen=True, slots=True)
class Product:
    """A measured (rows x inputs) @ (inputs x outputs) of 16-bit values; `seconds` of its run."""

    rows: int
    outputs: int
    inputs: int
    seconds: float

    @property
    def shape(self) -> str:
        """m x n x k as the tables write it."""
        return f"{self.rows} x {self.outputs} x {self.inputs}"


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """Products of one source on one GPU, how they were measured, and what they may prove.

    `columns` says which numbers of the source became the products.
    """

    gpu: str
    repository: str
    path: str
    commit: str
    columns: str
    method: str
    standing: str
    why: str
    products: tuple[Product, ...]


@dataclass(frozen=True, slots=True)
class Deviation:
    """A product and its predicted time; `relative` is predicted / measured - 1."""

    product: Product
    predicted_s: float

    @property
    def relative(self) -> float:
        """Positive where the prediction is too slow."""
        return self.predicted_s / self.product.seconds - 1

    @property
    def is_weight_bound(self) -> bool:
        """Whether the product has so few rows that reading the weights decides."""
        return self.product.rows <= WEIGHT_BOUND_ROWS


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Of some deviations: how many, the median size, the median with its sign, and the worst."""

    count: int
    median: float
    signed_median: float
    worst: Deviation


def read_table(text: str, name: str) -> MeasuredTable:
    """A table from its CSV text: `# key: value` lines, then m, n, k and `us` or `tflops`.

    InputError names the file, what is missing or which row is not a positive number.
    """
    lines = text.splitlines()
    head = _headers(line for line in lines if line.startswith("#"))
    missing = [key for key in HEADERS if key not in head]
    if missing:
        raise InputError(f"table '{name}' lacks '# {missing[0]}: ...'; expected {HEADERS}")
    if head["standing"] not in STANDINGS:
        raise InputError(f"table '{name}' has standing '{head['standing']}'; expected {STANDINGS}")
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    products = tuple(_product(row, name, number) for number, row in enumerate(rows, start=1))
    if not products:
        raise InputError(f"table '{name}' holds no products; expected rows of m, n, k and a time")
    return MeasuredTable(**{key: head[key] for key in HEADERS}, products=products)


def deviations(gpu: GpuProfile, products: Iterable[Product]) -> tuple[Deviation, ...]:
    """The prediction of every product on `gpu` with 16-bit weights."""
    return tuple(
        Deviation(product, gemm(gpu, product.inputs, product.outputs, "fp16").seconds(product.rows))
        for product in products
    )


def summarize(found: Iterable[Deviation]) -> ErrorSummary | None:
    """The errors of some deviations; None where there are none."""
    every = tuple(found)
    if not every:
        return None
    return ErrorSummary(
        count=len(every),
        median=median(abs(each.relative) for each in every),
        signed_median=median(each.relative for each in every),
        worst=max(every, key=lambda each: abs(each.relative)),
    )


def products_digest(products: Iterable[Product]) -> str:
    """SHA-256 of `m,n,k,us` lines, us to three decimals, sorted: free of order and notation."""
    lines = sorted(f"{p.rows},{p.outputs},{p.inputs},{p.seconds * 1e6:.3f}\n" for p in products)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def constants_digest(gpu: GpuProfile) -> str:
    """SHA-256 of what the errors of `gpu` depend on besides a table: its constants, the formula."""
    stated = [f"{name}={getattr(gpu, name).value!r}\n" for name in CONSTANTS]
    probed = [
        f"{rows},{outputs},{inputs},{gemm(gpu, inputs, outputs, 'fp16').seconds(rows):.6g}\n"
        for rows, outputs, inputs in _PROBES
    ]
    return hashlib.sha256("".join(stated + probed).encode()).hexdigest()


def _headers(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.removeprefix("#").partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _product(row: Mapping[str, str], name: str, number: int) -> Product:
    try:
        rows, outputs, inputs = (int(row[size]) for size in _SIZES)
        flop = 2.0 * rows * outputs * inputs
        is_time = "us" in row
        value = float(row["us" if is_time else "tflops"])
        seconds = value * 1e-6 if is_time else flop / (value * 1e12)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _bad_row(name, number) from error
    if min(rows, outputs, inputs) < 1 or not (math.isfinite(seconds) and seconds > 0):
        raise _bad_row(name, number)
    return Product(rows, outputs, inputs, seconds)


def _bad_row(name: str, number: int) -> InputError:
    return InputError(
        f"row {number} of table '{name}' is no product; expected positive m, n, k and us or tflops"
    )
