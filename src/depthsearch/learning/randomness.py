"""Random numbers of one's own: torch's global generators, of the CPU and of one GPU, kept and put back."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def random_states(device: torch.device) -> list[Tensor]:
    """The states of the generators that work on a device draws from: the CPU's, and the GPU's if it is one."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Puts back what `random_states` gave. What it gave on a CPU says how a GPU's numbers begin."""
    torch.set_rng_state(states[0])
    if device.type != "cuda":
        return
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
    else:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(int(torch.randint(2**62, ())))
        torch.set_rng_state(states[0])


class OwnRandomNumbers:
    """A stream of random numbers that nobody else draws from.

    Attributes:
        states: where it is, on the CPU; to be saved, and set to go on from there.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._device = device
        with self._forked():
            torch.manual_seed(seed)
            self.states = random_states(device)

    @contextlib.contextmanager
    def drawn(self) -> Iterator[None]:
        """Within it, all that draws from torch's global generators draws from this stream; they are put back after."""
        with self._forked():
            set_random_states(self._device, self.states)
            yield
            self.states = random_states(self._device)

    def _forked(self) -> contextlib.AbstractContextManager:
        return torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else [])
