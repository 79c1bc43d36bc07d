"""Predictions as plain JSON values with units in their names. Writes no file."""

from collections.abc import Mapping
from dataclasses import asdict

from apexbench.engine.predict.layer import OpPrediction, Prediction
from apexbench.engine.predict.machine import Machine
from apexbench.engine.predict.sensitivity import Provenance
from apexbench.engine.predict.steady import Optimum, SteadyStates

SCHEMA_VERSION = 1

Json = dict[str, object]


def header(machine: Machine, tool_version: str) -> Json:
    """Who says it and about what; every constant with value, source, kind and sigma."""
    at = machine.deployment
    rate = machine.cpu_bytes_per_s
    return {
        "schema_version": SCHEMA_VERSION,
        "tool_version": tool_version,
        "kind": "prediction",
        "config": {
            "gpu": at.gpu.name,
            "host": at.host.name,
            "model": at.model.name,
            "weights": at.weight_dtype,
            "cpu_kernel": at.cpu_kernel.name,
            "cpu_threads": at.cpu_threads,
            "gpu_memory_utilization": at.gpu_memory_utilization,
            "gpu_kv_tokens": at.gpu_kv_tokens,
            "cpu_attention_gbps": None if rate is None else rate / 1e9,
        },
        "constants": [constant.model_dump(mode="json") for constant in at.constants()],
    }


def layer_document(prediction: Prediction) -> Json:
    """`mix`, `layer.ops[]`, `step.ops[]`, `bottleneck`, `roofline` and `roofs[]`."""
    layer, step = prediction.layer, prediction.step
    return {
        "mix": asdict(prediction.mix),
        "layer": {
            "count": layer.count,
            "gpu_s": layer.gpu_s,
            "cpu_path_s": layer.cpu_path_s,
            "ops": [_op(op) for op in layer.ops],
        },
        "step": {
            "seconds": step.seconds,
            **_provenance(step.provenance),
            "output_tokens": step.output_tokens,
            "output_throughput_tok_s": step.output_throughput_tok_s,
            "ops": [_op(op) for op in step.ops],
        },
        "bottleneck": asdict(prediction.bottleneck),
        "roofline": asdict(prediction.roofline),
        "roofs": [asdict(roof) for roof in prediction.roofs],
    }


def steady_document(states: SteadyStates) -> Json:
    """`steady` by strategy, the optimum, and the same under the bound where there is one."""
    question = states.question
    document: Json = {
        "load": {
            "context": question.context,
            "gpu_rows": question.gpu_rows,
            "max_cpu_rows": question.max_cpu_rows,
            "cohorts": question.cohorts,
        },
        "steady": _strategies(states.strategies),
        "optimum": states.best,
        "within_tpot": None,
    }
    if states.bounded is not None:
        document["within_tpot"] = {
            "tpot_s": question.tpot_s,
            "steady": _strategies(states.bounded),
            "optimum": states.best_bounded,
        }
    return document


def _strategies(found: Mapping[str, Optimum | None]) -> Json:
    return {name: None if at is None else asdict(at) for name, at in found.items()}


def _op(op: OpPrediction) -> Json:
    return {
        "name": op.name,
        "kind": op.kind,
        "lane": op.lane,
        "seconds": op.seconds,
        "bytes": op.bytes,
        "flop": op.flop,
        "flop_per_s": op.flop_per_s,
        "intensity": op.intensity,
        "bound_by": op.bound_by,
        "share": op.share,
        "roofline_share": op.roofline_share,
        **_provenance(op.provenance),
    }


def _provenance(provenance: Provenance) -> Json:
    """`provenance` is the worst kind; `worst_constants` are of that kind, `rests_on` all."""
    return {
        "provenance": provenance.kind,
        "sigma": provenance.sigma,
        "worst_constants": list(provenance.worst),
        "rests_on": [asdict(reliance) for reliance in provenance.rests_on],
    }
