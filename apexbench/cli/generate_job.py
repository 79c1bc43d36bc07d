"""What `generate` was asked for: prompts, sampling, model and memory, checked. Loads no weights."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apexbench import config as configuration
from apexbench.cli.generation import Job, Prompt
from apexbench.compare.machines.checks import check_real_model, usable_cores
from apexbench.compare.machines.engine_modules import engine_module, require_engine
from apexbench.compare.machines.memory import available_bytes
from apexbench.compare.machines.real_model import CpuMachine, cpu_machine
from apexbench.compare.variants import BASELINE, VariantSpec, parse_variant
from apexbench.config import CompareConfig
from apexbench.engine.capacity import CPU_BLOCK_TOKENS, GPU_BLOCK_TOKENS
from apexbench.engine.simulate import thresholds_for
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import InputError, UsageError

if TYPE_CHECKING:
    from apexbench.engine.model.config import ModelConfig
    from apexbench.engine.model.tokenizer import Tokenizer

# Options of the machine, which compare has too and which the environment and the file can set.
_SHARED = (
    "model", "weights", "dtype", "cpu_kv_dtype", "gpu_kv_tokens", "cpu_kv_tokens", "cpu_threads",
    "gpu_threads", "thresholds",
)  # fmt: skip
_SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "ignore_eos",
    "logprobs",
)  # fmt: skip
_SOURCES = ("prompt", "prompt_ids", "prompt_file")
_STANDARD_INPUT = "-"
DEFAULT_NEW_TOKENS = 128


def job_of(options: Mapping[str, Any]) -> Job:
    """The job of a command line; UsageError or InputError in one sentence, before anything runs."""
    _check_sources(options)
    variant = parse_variant(options["policies"])
    require_engine()
    _params(options, DEFAULT_NEW_TOKENS)  # wrong values are said before files are read
    resolved = _resolve(options)
    model = engine_module("apexbench.engine.model.config").read_config(resolved.model)
    tokenizer = _tokenizer(options, resolved)
    prompts = tuple(_prompts(options, tokenizer))
    params = _params(options, _usual_new_tokens(model, prompts))
    _check_prompts(model, prompts, params.max_tokens)
    needs = [len(prompt.token_ids) + params.max_tokens for prompt in prompts]
    machine = _machine(resolved, variant, needs)
    changes = {**resolved.thresholds, **variant.thresholds}
    thresholds = thresholds_for(variant.entry.name, changes)
    policy = variant.entry.name if machine.capacity.cpu_kv_tokens else BASELINE
    return Job(prompts, params, tokenizer, machine, policy, thresholds)


def _check_sources(options: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if options[name]]
    if len(given) != 1:
        what = " and ".join(_flag(name) for name in given) or "no prompt"
        raise UsageError(
            f"{what} given; name prompts by one of --prompt, --prompt-ids, --prompt-file"
        )


def _usual_new_tokens(model: "ModelConfig", prompts: Sequence[Prompt]) -> int:
    """As many as usual, where the model has positions for them; the last one takes none."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    return max(1, min(DEFAULT_NEW_TOKENS, model.max_length - longest + 1))


def _params(options: Mapping[str, Any], usual_new_tokens: int) -> Any:
    module = engine_module("apexbench.engine.model.sampling_params")
    values = {name: options[name] for name in _SAMPLING}
    stop = tuple(options["stop"] or ())
    asked = options["max_new_tokens"]
    max_tokens = usual_new_tokens if asked is None else asked
    return module.SamplingParams(max_tokens=max_tokens, stop=stop, **values)


def _resolve(options: Mapping[str, Any]) -> CompareConfig:
    cli = {name: options["set_" if name == "thresholds" else name] for name in _SHARED}
    file = configuration.locate(options["config"], os.environ, Path.cwd())
    resolved = configuration.resolve(cli | {"backend": "cpu"}, os.environ, file)
    check_real_model(resolved)
    return resolved


def _tokenizer(options: Mapping[str, Any], config: CompareConfig) -> "Tokenizer | None":
    """None where prompts come as ids and the model's folder has none."""
    module = engine_module("apexbench.engine.model.tokenizer")
    folder = Path(config.model or "")
    if folder.suffix == ".json":
        folder = folder.parent
    is_needed = not options["prompt_ids"] or bool(options["stop"])
    if not is_needed and not (folder / module.FILE).is_file():
        return None
    tokenizer: Tokenizer = module.load_tokenizer(folder)
    return tokenizer


def _prompts(options: Mapping[str, Any], tokenizer: "Tokenizer | None") -> Iterator[Prompt]:
    for text in options["prompt_ids"] or ():
        yield Prompt(_ids(text))
    texts = options["prompt"] or ()
    if options["prompt_file"] is not None:
        texts = _lines(options["prompt_file"])
    for text in texts:
        assert tokenizer is not None
        yield Prompt(tokenizer.encode(text), text)


def _ids(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--prompt-ids must be token ids such as 1,15043,29892; got '{text}'"
        ) from None


def _lines(path: Path) -> list[str]:
    """Prompts of a file, one per line; blank lines are none."""
    try:
        text = sys.stdin.read() if str(path) == _STANDARD_INPUT else path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"cannot read prompt file '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompt file '{path}' is not UTF-8 text") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"prompt file '{path}' has no prompts; write one per line")
    return lines


def _check_prompts(model: "ModelConfig", prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    check = engine_module("apexbench.engine.model.config").check_prompt
    for number, prompt in enumerate(prompts, start=1):
        try:
            check(model, prompt.token_ids, max_new_tokens)
        except InputError as error:
            which = f"prompt {number}: " if len(prompts) > 1 else ""
            raise InputError(f"{which}{error}") from error


def _machine(config: CompareConfig, variant: VariantSpec, needs: Sequence[int]) -> CpuMachine:
    """Pools as asked for, else as large as all prompts need at once."""
    free = available_bytes()
    gpu_tokens = config.gpu_kv_tokens or _all_at_once(needs)
    is_pressed = gpu_tokens < _all_at_once(needs) or config.cpu_kv_tokens is not None
    uses_host = variant.entry.uses_cpu and is_pressed
    cores = usable_cores()
    cpu_threads = config.cpu_threads or max(1, cores // 2)
    gpu_threads = config.gpu_threads or (max(1, cores - cpu_threads) if uses_host else cores)
    asked = {"gpu_kv_tokens": gpu_tokens, "cpu_threads": cpu_threads, "gpu_threads": gpu_threads}
    usual = sum(-(-need // CPU_BLOCK_TOKENS) * CPU_BLOCK_TOKENS for need in needs)
    machine = cpu_machine(
        config.model_copy(update=asked), variant.gpu_threads, free, usual if uses_host else 0
    )
    _check_room(machine, needs)
    return machine


def _all_at_once(needs: Sequence[int]) -> int:
    """KV tokens of a pool in which no prompt waits, whole blocks, with those kept free."""
    blocks = sum(-(-need // GPU_BLOCK_TOKENS) for need in needs)
    kept_free = Thresholds().gpu_kv_watermark
    return (int(blocks / (1 - kept_free)) + 1) * GPU_BLOCK_TOKENS


def _check_room(machine: CpuMachine, needs: Sequence[int]) -> None:
    """A prompt whose tokens fit neither pool would be refused in the middle of its answer."""
    most = max(machine.capacity.gpu_kv_tokens, machine.capacity.cpu_kv_tokens)
    for number, need in enumerate(needs, start=1):
        if need > most:
            raise InputError(
                f"prompt {number} with its new tokens needs {need} KV tokens and the larger pool"
                f" has {most}: give more --gpu-kv-tokens or --cpu-kv-tokens, or fewer"
                " --max-new-tokens"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
