"""One step of the real model, op by op; each method runs on the thread of its op's lane."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from apexbench.cpu_kernels import Ticket
from apexbench.engine.executors.cpu.host_rows import HostRows
from apexbench.engine.executors.cpu.model_state import CohortState, ModelState
from apexbench.engine.executors.cpu.rows import Batch, Chunk, batch_of, decode_rows
from apexbench.engine.executors.threads.step_run import rows_of
from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.expansion import Op
from apexbench.engine.plan import ENTER, StepPlan
from apexbench.engine.sequence import Tier
from apexbench.errors import InvariantError

_KeyValues = tuple[Tensor, Tensor]
_Found = TypeVar("_Found")


@dataclass(slots=True, eq=False)
class _Group:
    """A sub-batch on its way through the layers."""

    batch: Batch
    host: HostRows | None  # of its in-layer rows
    hidden: Tensor | None = None
    q: Tensor | None = None  # all rows of the layer at hand
    k: Tensor | None = None
    v: Tensor | None = None
    attended: Tensor | None = None  # rows before the in-layer ones
    layer: int = 0


class CpuStep:
    """The work of one plan's program."""

    def __init__(self, model: ModelState, plan: StepPlan) -> None:
        self._model = model
        self._plan = plan
        self._groups = {
            name: self._group(index) for index, name in enumerate("AB"[: len(plan.batches)])
        }
        self._cohorts = [model.cohorts.get(step.cohort) for step in plan.cohorts]
        for position, step in enumerate(plan.cohorts):
            if step.action is ENTER:
                self._cohorts[position] = self._entering(step.cohort, step.rows)
        self._qkv: dict[str, tuple[Tensor, Tensor, Tensor]] = {}  # of groups of CPU rows
        self._received: dict[str, Tensor] = {}
        self._staged: dict[int, _KeyValues] = {}  # by layer: chunks of CPU-bound prompts
        self._reread: dict[int, list[_KeyValues]] = {}  # by layer: their context
        self._num_rereads = 0
        # Taken down now: a prompt may have ended, its blocks in quarantine, before its KV arrives.
        self._host_blocks = {
            chunk.sequence: tuple(model.blocks_of(chunk.sequence))
            for chunk in plan.batches[0].chunks
            if chunk.tier is Tier.CPU
        }
        self._sampled = Sampled((), frozenset())
        self._is_broken = False
        self._runners: dict[str, Callable[[Op], None]] = {
            "embed": self._embed,
            "pre": self._pre,
            "attn_gpu": self._attend,
            "launch": self._launch,
            "post": self._post,
            "head": self._head,
            "send": self._send,
            "recv": self._receive,
        }
        self._bulk: dict[str, Callable[[Op], Iterator[None]]] = {
            "swap_in": self._swap_in,
            "swap_out": self._swap_out,
            "offload": self._offload,
            "reread": self._read_again,
        }

    # -- StepWork ------------------------------------------------------------------------------

    @torch.inference_mode()
    def run(self, op: Op) -> None:
        """An op of the gpu lane, or an urgent copy. After a failure the gpu lane does no more in
        this step: whoever would have taken part fails too.
        """
        if op.lane == "gpu" and self._is_broken:
            raise InvariantError("an earlier op of the step failed")
        self._runners[op.kind](op)

    def pieces(self, op: Op) -> Iterator[None]:
        """A bulk copy, one sequence after the other."""
        return self._bulk[op.kind](op)

    def submit(self, op: Op) -> Ticket:
        """Start CPU attention of a group of rows."""
        return self._host_of(op.group).attend(self._layer_of(op.group), op.priority)

    def give_up(self, op: Op) -> None:
        """The rows of a failed op get no token; zeros stand in for what others compute with."""
        self._is_broken = self._is_broken or op.lane == "gpu"
        self._model.sequences.give_up(rows_of(self._plan, op))
        if op.kind in ("send", "attn_cpu", "recv"):
            host = self._host_of(op.group)
            self._received[op.group] = torch.zeros_like(host.out).flatten(1)

    def sampled(self) -> Sampled:
        """What the step produced."""
        return self._sampled

    # -- the gpu lane --------------------------------------------------------------------------

    def _embed(self, op: Op) -> None:
        decoder = self._model.decoder
        for group in self._groups.values():
            group.hidden = decoder.embed(group.batch.rows.token_ids)
        for position in op.cohorts:
            cohort = self._cohort(position)
            cohort.hidden = decoder.embed(cohort.rows.token_ids)

    def _pre(self, op: Op) -> None:
        self._begin_layer(op, 0)

    def _launch(self, op: Op) -> None:
        """post(l) and pre(l + 1) of a sub-batch and the cohorts that take part."""
        layer = self._groups[op.group].layer
        self._end_layer(op, layer)
        self._begin_layer(op, layer + 1)

    def _post(self, op: Op) -> None:
        self._end_layer(op, self._groups[op.group].layer)

    def _begin_layer(self, op: Op, layer: int) -> None:
        """Norm, QKV, positions and KV store of one launch group."""
        group = self._groups[op.group]
        cohorts = [self._cohort(position) for position in op.cohorts]
        group.layer = layer
        rows = [group.batch.rows, *(cohort.rows for cohort in cohorts)]
        hidden = _join([_there(group.hidden), *(_there(cohort.hidden) for cohort in cohorts)])
        if not len(hidden):
            return
        positions = _join([part.positions for part in rows])
        lengths = _join([part.lengths for part in rows])
        q, k, v = self._model.decoder.pre(layer, hidden, positions, lengths)
        start = group.batch.rows.num_rows
        group.q, group.k, group.v = q[:start], k[:start], v[:start]
        for position, cohort in zip(op.cohorts, cohorts, strict=True):
            end = start + cohort.rows.num_rows
            self._qkv[f"c{position}"] = (q[start:end], k[start:end], v[start:end])
            cohort.layer = layer
            start = end
        self._keep_kv(group, layer)
        if group.host is not None:
            first = group.batch.in_layer
            self._qkv[op.group] = (group.q[first:], group.k[first:], group.v[first:])

    def _keep_kv(self, group: _Group, layer: int) -> None:
        """K and V of GPU rows into their pool; of CPU-bound prompts to where copies find them."""
        batch, k, v = group.batch, _there(group.k), _there(group.v)
        if len(batch.stored) == len(k):
            self._model.gpu.store(layer, batch.store_slots, k, v)
        elif len(batch.stored):
            stored = batch.stored
            self._model.gpu.store(layer, batch.store_slots, k[stored], v[stored])
        if any(chunk.slots is None for chunk in batch.chunks):
            last = batch.chunks[-1].end
            self._staged[layer] = (k[:last], v[:last])

    def _attend(self, op: Op) -> None:
        """Attention of prompts and GPU rows. Rows on the CPU tier follow them in the batch."""
        group = self._groups[op.group]
        if not group.batch.in_layer:
            return
        q, layer = _there(group.q), group.layer
        reread = iter(self._reread.pop(layer, ()))
        parts = [
            self._attend_chunk(layer, chunk, q[chunk.first : chunk.end], reread)
            for chunk in group.batch.chunks
        ]
        decode = group.batch.decode
        if decode is not None:
            model = self._model
            parts.append(
                model.attention.decode(
                    q[decode.first : decode.end],
                    model.gpu.layer(layer),
                    decode.slots,
                    decode.num_tokens,
                    model.config.window_of(layer),
                )
            )
        group.attended = _join(parts)

    def _attend_chunk(
        self, layer: int, chunk: Chunk, q: Tensor, reread: Iterator[_KeyValues]
    ) -> Tensor:
        """A prompt of the CPU tier attends to what comes back from the host and to itself."""
        model = self._model
        pools, slots = model.gpu.layer(layer), chunk.slots
        if slots is None:
            k, v = (part[chunk.first : chunk.end] for part in self._staged[layer])
            if chunk.plan.context_tokens:
                before = next(reread, None)
                if before is None:  # reading it again has failed, and so has its sequence
                    return torch.zeros_like(q).flatten(1)
                k, v = torch.cat([before[0], k]), torch.cat([before[1], v])
            pools, slots = (k, v), torch.arange(len(k))
        return model.attention.prefill(q, pools, slots, model.config.window_of(layer))

    def _end_layer(self, op: Op, layer: int) -> None:
        """Output projection and FFN of one launch group, once all its attention is there."""
        group = self._groups[op.group]
        cohorts = [self._cohort(position) for position in op.cohorts]
        hidden = _join([_there(group.hidden), *(_there(cohort.hidden) for cohort in cohorts)])
        if not len(hidden):
            return
        attended = [group.attended] if group.batch.in_layer and group.attended is not None else []
        names = ([op.group] if group.host is not None else []) + [f"c{c}" for c in op.cohorts]
        attended += [self._received.pop(name) for name in names]
        hidden = self._model.decoder.post(layer, hidden, _join(attended))
        self._staged.pop(layer - 1, None)  # the program has let its copy end before this op
        start = group.batch.rows.num_rows
        group.hidden = hidden[:start]
        for cohort in cohorts:
            end = start + cohort.rows.num_rows
            cohort.hidden = hidden[start:end]
            start = end

    def _head(self, _: Op) -> None:
        """The next token of every row that has come through all layers."""
        rows: list[int] = []
        parts: list[Tensor] = []
        for batch, group in zip(self._plan.batches, self._groups.values(), strict=True):
            chunks = group.batch.chunks
            last = [chunk.end - 1 for chunk in chunks if chunk.plan.is_last]
            rows += [chunk.plan.sequence for chunk in chunks if chunk.plan.is_last]
            rows += (*batch.gpu_rows, *batch.in_layer_rows)
            first = chunks[-1].end if chunks else 0
            hidden = _there(group.hidden)
            parts += [hidden[last], hidden[first:]]
        for position, step in enumerate(self._plan.cohorts):
            if step.samples(self._model.num_layers):
                rows += step.rows
                parts.append(_there(self._cohort(position).hidden))
                del self._model.cohorts[step.cohort]
        sequences = self._model.sequences
        kept = [index for index, row in enumerate(rows) if not sequences[row].is_failed]
        if kept:
            hidden = _join(parts)
            hidden = hidden if len(kept) == len(rows) else hidden[kept]
            logits = self._model.decoder.head(hidden)
            self._sampled = self._model.sample([rows[index] for index in kept], logits)

    # -- between the tiers ---------------------------------------------------------------------

    def _send(self, op: Op) -> None:
        self._host_of(op.group).send(*self._qkv.pop(op.group))

    def _receive(self, op: Op) -> None:
        self._received[op.group] = self._host_of(op.group).received()

    def _swap_out(self, op: Op) -> Iterator[None]:
        layer = _there(op.layer)
        for move in self._plan.moves:
            if move.tier is Tier.CPU:
                k, v = self._model.gpu.tokens(layer, move.source, move.tokens)
                self._model.host.store(layer, move.target, 0, k, v)
                yield

    def _swap_in(self, op: Op) -> Iterator[None]:
        layer = _there(op.layer)
        for move in self._plan.moves:
            if move.tier is Tier.GPU:
                k, v = self._model.host.tokens(layer, move.source, move.tokens)
                self._model.gpu.store_tokens(layer, move.target, k, v)
                yield

    def _offload(self, op: Op) -> Iterator[None]:
        """What the prompts of the CPU tier added to one layer goes to the host."""
        layer = _there(op.layer)
        k, v = self._staged[layer]
        for chunk, blocks in self._host_chunks():
            part = slice(chunk.first, chunk.end)
            first = chunk.plan.context_tokens
            self._model.host.store(layer, blocks, first, k[part], v[part])
            yield

    def _read_again(self, _: Op) -> Iterator[None]:
        """The context of prompts of the CPU tier comes back, one layer further with every op."""
        layer = self._num_rereads
        self._num_rereads += 1
        found = self._reread[layer] = []
        for chunk, blocks in self._host_chunks():
            if chunk.plan.context_tokens:
                found.append(self._model.host.tokens(layer, blocks, chunk.plan.context_tokens))
                yield

    def _host_chunks(self) -> Iterator[tuple[Chunk, tuple[int, ...]]]:
        for chunk in self._groups["A"].batch.chunks:
            if chunk.slots is None:
                yield chunk, self._host_blocks[chunk.plan.sequence]

    # -- preparation, on the caller's thread ---------------------------------------------------

    def _group(self, index: int) -> _Group:
        model, batch = self._model, self._plan.batches[index]
        laid_out = batch_of(batch, model.sequences, model.blocks_of, model.gpu.block_tokens)
        host = self._host_rows(batch.in_layer_rows) if batch.in_layer_rows else None
        return _Group(laid_out, host)

    def _entering(self, cohort: int, ids: tuple[int, ...]) -> CohortState:
        rows = decode_rows(ids, self._model.sequences)
        state = self._model.cohorts[cohort] = CohortState(rows, self._host_rows(ids))
        return state

    def _host_rows(self, ids: tuple[int, ...]) -> HostRows:
        model = self._model
        tables = [model.blocks_of(row) for row in ids]
        return HostRows(model.lane, tables, [len(model.sequences[row].token_ids) for row in ids])

    def _cohort(self, position: int) -> CohortState:
        return _there(self._cohorts[position])

    def _host_of(self, group: str) -> HostRows:
        if group.startswith("c"):
            return self._cohort(int(group[1:])).host
        return _there(self._groups[group].host)

    def _layer_of(self, group: str) -> int:
        if group.startswith("c"):
            return self._cohort(int(group[1:])).layer
        return self._groups[group].layer


def _there(value: _Found | None) -> _Found:
    """What an earlier op of the program has left; without it the program is wrong."""
    if value is None:
        raise InvariantError("an op ran before what it needs was there")
    return value


def _join(parts: list[Tensor]) -> Tensor:
    """Rows of several groups one below the other; no copy where there is one group."""
    filled = [part for part in parts if len(part)] or parts[:1]
    return filled[0] if len(filled) == 1 else torch.cat(filled)
