"""Averaged SGD that starts by itself: NT-ASGD of Merity, Keskar & Socher 2018 (arXiv 1708.02182, section 3)."""

import contextlib
from collections.abc import Iterable, Iterator

from torch import Tensor


class Averaging:
    """The mean of parameters over steps, from the first evaluation on that makes no headway.

    It starts after an evaluation whose loss is above the lowest of all but the last `patience` ones before it. The mean
    is over the steps after that but for the first, which is what `torch.optim.ASGD` with t0 = 0 and lambd = 0 keeps.

    Args:
        parameters: what is averaged; an optimiser changes them in place.
        patience: evaluations of which any may be as bad as the one at hand.

    Raises:
        ValueError: the patience is negative.
    """

    def __init__(self, parameters: Iterable[Tensor], patience: int = 5) -> None:
        if patience < 0:
            raise ValueError(f"patience is a number of evaluations, 0 or more, not {patience}")
        self._parameters, self._patience = [p.detach() for p in parameters], patience
        self._losses: list[float] = []
        self._means: list[Tensor] = []
        self._steps = 0

    @property
    def started(self) -> bool:
        """Whether steps are averaged."""
        return len(self._means) > 0

    def observe(self, loss: float) -> None:
        """Takes note of an evaluation, which may start the averaging."""
        if self.started:
            return
        earlier = self._losses[: max(len(self._losses) - self._patience, 0)]
        if earlier and loss > min(earlier):
            self._means = [p.clone() for p in self._parameters]
        self._losses.append(loss)

    def update(self) -> None:
        """Takes note of a step of the optimiser; nothing before the averaging has started."""
        if self.started:
            self._steps += 1
            for mean, p in zip(self._means, self._parameters, strict=True):
                mean.lerp_(p, 1 / max(self._steps - 1, 1))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this, the parameters are their means, if there are any; they may be read but not changed."""
        if not self.started:
            yield
            return
        kept = [p.clone() for p in self._parameters]
        try:
            _copy(self._means, self._parameters)
            yield
        finally:
            _copy(kept, self._parameters)

    def state_dict(self) -> dict:
        """Copies of all that it takes to go on."""
        return {"losses": list(self._losses), "means": [m.clone() for m in self._means], "steps": self._steps}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from a `state_dict`, on whatever device that was."""
        self._losses, self._steps = list(state["losses"]), state["steps"]
        pairs = zip(state["means"], self._parameters, strict=False)
        self._means = [mean.to(p.device, copy=True) for mean, p in pairs]


def _copy(values: Iterable[Tensor], into: Iterable[Tensor]) -> None:
    for target, value in zip(into, values, strict=True):
        target.copy_(value)
