"""How the papers search a cell, strategy by strategy: DARTS (arXiv 1806.09055), DrNAS (2006.10355)."""

from dataclasses import dataclass, field, replace

from depthsearch.learning.stages import Schedule, Stage
from depthsearch.strategies import ARCHITECTS
from depthsearch.strategies.mixing import Mixing


@dataclass(frozen=True)
class Plan:
    """How a strategy searches a space.

    Attributes:
        architect: how it learns the mixing weights.
        channels, cells: size of the search network: C, and N a stage (NAS-Bench-201) or in all (DARTS); of no account
            for a recurrent cell.
        epochs: of all stages together.
        partial, keep: of each stage, what `Stage` says of them.
        schedule: how it trains the weights.
    """

    architect: Mixing
    channels: int = 16
    cells: int = 5
    epochs: int = 100
    partial: tuple[int, ...] = (1,)
    keep: tuple[int | None, ...] = (None,)
    schedule: Schedule = field(default_factory=Schedule)

    def stages(self) -> list[Stage]:
        """Of equal length but for a rest, which the first ones have."""
        n = len(self.partial)
        lengths = [self.epochs // n + (i < self.epochs % n) for i in range(n)]
        opened = (None, *self.partial[1:])  # the first is what the space is made with
        return [Stage(*stage) for stage in zip(lengths, self.keep, opened, strict=True)]


def _nasbench201() -> dict[str, Plan]:
    plans = {name: Plan(architect) for name, architect in ARCHITECTS.items()}
    for name, plan in plans.items():
        if name.startswith("DrNAS progressive"):
            plans[name] = replace(plan, partial=(4, 2), keep=(None, 3))
    # As in DrNAS's code. "DARTS (paper)" clips as DARTS's own does, the weights alone.
    for name in ("DrNAS (paper)", "DrNAS progressive (paper)"):
        plans[name] = replace(plans[name], schedule=Schedule(clips_alpha=True))
    # The channels alone: what PC-DARTS (arXiv 1907.05737) adds, but for its weights of edges.
    return plans | {"DARTS partial channels": Plan(ARCHITECTS["DARTS"], partial=(4,))}


def _darts() -> dict[str, Plan]:
    plans = {name: Plan(architect, channels=16, cells=8, epochs=50) for name, architect in ARCHITECTS.items()}
    for name, plan in plans.items():
        if name.startswith("DrNAS progressive"):
            architect, steep = replace(plan.architect, learning_rate=6e-4, warm_up=0.4), Schedule(0.1, 0.0)
            plans[name] = Plan(architect, 36, 20, 50, partial=(6, 4), keep=(None, 4), schedule=steep)
    return plans | {"DARTS partial channels": Plan(ARCHITECTS["DARTS"], 16, 8, 50, partial=(4,))}


def _recurrent() -> dict[str, Plan]:
    """Those of DARTS, appendix A.1.2; DrNAS, which was published for images only, has them too."""
    steady = Schedule(20.0, 20.0, 0.0, 5e-7, clip=0.25, clips_ahead=True, tied=("embedding",))
    return {
        name: Plan(replace(architect, learning_rate=3e-3, betas=(0.9, 0.999)), epochs=50, schedule=steady)
        for name, architect in ARCHITECTS.items()
        if not name.startswith("DrNAS progressive")  # there are no channels to open
    }


NASBENCH201, DARTS, RECURRENT = _nasbench201(), _darts(), _recurrent()
