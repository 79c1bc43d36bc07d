"""What `generate` says when it is done: a line, and everything as a document. Prints nothing."""

from typing import Any

import apexbench
from apexbench.cli.generation import Answer, Job, Outcome
from apexbench.records import NS_PER_S, RequestStatus

INTERRUPTED = "interrupted"


def summary(outcome: Outcome) -> str:
    """ "24 tokens for 2 prompts in 1.3 s: 18.5 tokens/s; steps: 10 gpu_only, 4 deferred; …"."""
    tokens = sum(len(answer.tokens) for answer in outcome.answers)
    on_cpu = sum(answer.record.cpu_decode_tokens for answer in outcome.answers if answer.record)
    count = len(outcome.answers)
    steps = ", ".join(f"{num} {strategy}" for strategy, num in outcome.steps.items()) or "none"
    rate = tokens / outcome.wall_s if outcome.wall_s > 0 else 0.0
    return (
        f"{tokens} tokens for {count} prompt{'s' if count > 1 else ''} in {outcome.wall_s:.2f} s:"
        f" {rate:.1f} tokens/s; steps: {steps}; {on_cpu} tokens decoded on the CPU tier"
    )


def failures(outcome: Outcome) -> list[str]:
    """A sentence per prompt that could not be answered."""
    return [
        f"prompt {index + 1} failed: {answer.record.reason}"
        for index, answer in enumerate(outcome.answers)
        if answer.record and answer.record.status in (RequestStatus.FAILED, RequestStatus.REJECTED)
    ]


def document(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Answers with their tokens, and what they ran on; seconds and tokens in the names."""
    machine = job.machine
    return {
        "tool_version": apexbench.__version__,
        "kind": "generate",
        "is_interrupted": outcome.is_interrupted,
        "model": machine.model.name,
        "weights": machine.path or "dummy",
        "dtype": machine.weight_dtype,
        "cpu_kv_dtype": machine.cpu_kv_dtype,
        "policy": job.policy,
        "gpu_kv_tokens": outcome.log.gpu_kv_tokens,
        "cpu_kv_tokens": outcome.log.cpu_kv_tokens,
        "gpu_threads": machine.gpu_threads,
        "cpu_threads": machine.cpu_threads,
        "seed": job.params.seed,
        "wall_s": outcome.wall_s,
        "steps": outcome.steps,
        "answers": [_answer(answer) for answer in outcome.answers],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    record, completion = answer.record, answer.completion
    found: dict[str, Any] = {
        "prompt": answer.prompt.text,
        "prompt_token_ids": list(answer.prompt.token_ids),
        "token_ids": [token.token for token in answer.tokens],
        "text": completion.text if answer.has_text else None,
        "finish_reason": completion.finish or _unfinished(answer),
        "logprobs": _logprobs(answer),
    }
    if record is None:
        return found
    return found | {
        "reason": record.reason,
        "ttft_s": _seconds(record.arrival_ns, record.first_token_ns),
        "e2e_s": _seconds(record.arrival_ns, record.end_ns),
        "cpu_decode_tokens": record.cpu_decode_tokens,
        "preemptions": record.preemptions,
        "swaps": record.swaps,
    }


def _unfinished(answer: Answer) -> str:
    status = answer.record.status if answer.record else RequestStatus.UNFINISHED
    return INTERRUPTED if status is RequestStatus.UNFINISHED else status.value


def _seconds(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / NS_PER_S


def _logprobs(answer: Answer) -> list[dict[str, Any]] | None:
    """Per token; None where nobody asked."""
    if not any(token.logprob is not None for token in answer.tokens):
        return None
    return [
        {
            "token": token.token,
            "logprob": token.logprob,
            "top": [{"token": other, "logprob": value} for other, value in token.top_logprobs],
        }
        for token in answer.tokens
    ]
