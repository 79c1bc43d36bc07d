"""A real model on this machine: its weights in memory, and what its operations take here."""

from typing import TYPE_CHECKING

from apexbench.compare.machines.engine_modules import engine_module
from apexbench.compare.machines.real_model import CpuMachine
from apexbench.compare.realtime.bench import LoadProgress

if TYPE_CHECKING:
    from apexbench.engine.executors.cpu.calibration import Calibration
    from apexbench.engine.executors.cpu.opening import Threading
    from apexbench.engine.model.decoder import Decoder

_WEIGHTS_SEED = 0  # of dummy weights: all runs of all comparisons have the same


def load_decoder(machine: CpuMachine, on_progress: LoadProgress) -> "Decoder":
    """The model with its weights, or with random ones; InputError for files that cannot be used."""
    if machine.path is None:
        dummy = engine_module("apexbench.engine.model.dummy")
        weights = dummy.dummy_weights(machine.config, machine.weight_dtype, _WEIGHTS_SEED)
    else:
        load_weights = engine_module("apexbench.engine.model.weights").load_weights
        weights = load_weights(machine.path, machine.config, machine.weight_dtype, on_progress)
    module = engine_module("apexbench.engine.model.decoder")
    decoder: Decoder = module.Decoder(machine.config, weights)
    return decoder


def threading_of(machine: CpuMachine) -> "Threading":
    """Threads of both lanes, as executors take them."""
    opening = engine_module("apexbench.engine.executors.cpu.opening")
    threads: Threading = opening.Threading(machine.gpu_threads, machine.cpu_threads)
    return threads


def calibrated(decoder: "Decoder", machine: CpuMachine) -> "Calibration":
    """What operations of the model take with the machine's threads, measured now."""
    calibration = engine_module("apexbench.engine.executors.cpu.calibration")
    found: Calibration = calibration.calibrate(decoder, threading_of(machine), machine.cpu_kv_dtype)
    return found
