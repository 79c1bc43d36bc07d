"""A step program written out op by op, as an executor on hardware issues it; simulates nothing."""

from typing import NamedTuple

from apexbench.engine.program import Program
from apexbench.engine.step_ops import OpTemplate


class Op(NamedTuple):
    """One op written out. `deps` are indices of earlier ops; `tickets` cohorts (by plan position)
    whose CPU result of the previous step it awaits; `leaves` is the cohort it works for when its
    own result is awaited only in the next step. `awaits_offload`: also the last `offload` of all
    earlier steps, whose staging it reuses or whose KV it reads.

    `layer` is where the op stands in the program. A cohort that leaves with the launch group
    post(l)+pre(l+1) works on layer l + 1; it stands there behind in-layer rows, else in layer l.
    """

    kind: str
    lane: str
    group: str
    layer: int | None
    priority: int
    cohorts: tuple[int, ...]
    deps: tuple[int, ...]
    tickets: tuple[int, ...] = ()
    leaves: int | None = None
    awaits_offload: bool = False


def expand(program: Program) -> tuple[Op, ...]:
    """The program op by op with explicit dependencies, as an executor on hardware issues it."""
    return tuple(_Expansion(program).ops())


class _Expansion:
    """Follows the completion registers: the last op that signalled a name is the dependency."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._written: list[Op] = []
        self._latest: dict[str, int] = {}

    def ops(self) -> list[Op]:
        for template in self._program.prologue:
            if template.is_per_layer:
                self._add_per_layer(template)
            else:
                self._add(template, None if template.kind in {"schedule", "embed"} else 0)
        for segment in self._program.segments:
            for layer in range(segment.first_layer, segment.first_layer + segment.num_layers):
                for template in segment.ops:
                    self._add(template, layer)
        for template in self._program.epilogue:
            self._add(template, None)
        return self._written

    def _add_per_layer(self, template: OpTemplate) -> None:
        for layer in range(self._program.shape.num_layers):
            self._add(template._replace(signal=f"{template.signal}@{layer}"), layer)

    def _add(self, template: OpTemplate, layer: int | None) -> None:
        names = [self._register(name, layer) for name in template.waits]
        own = template.signal
        is_ticket = own.startswith("ticket.")
        self._written.append(
            Op(
                *(template.kind, template.lane, template.group, layer, template.priority),
                cohorts=template.cohorts,
                deps=tuple(sorted({self._latest[n] for n in names if n in self._latest})),
                tickets=tuple(
                    int(n.removeprefix("ticket.c"))
                    for n in names
                    if n.startswith("ticket.") and n not in self._latest
                ),
                leaves=int(own.removeprefix("ticket.c")) if is_ticket else None,
                awaits_offload="offload" in names and "offload" not in self._latest,
            )
        )
        if template.keeps_previous and own in self._latest:
            self._latest[f"{own}.prev"] = self._latest[own]
        self._latest[own] = len(self._written) - 1

    @staticmethod
    def _register(name: str, layer: int | None) -> str:
        """ "swap_out@" is the layer at hand, "swap_out@+1" the next."""
        if "@" not in name:
            return name
        stem, offset = name.split("@")
        return f"{stem}@{(layer or 0) + int(offset or 0)}"
