"""The state of a network that somebody else's code has trained, made that of ours: by names, or by positions."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
INSIDE = ("state_dict", "model_state_dict", "model", "network")  # where a checkpoint keeps that of its network
COUNTER = "num_batches_tracked"  # of a batch norm; older versions of torch did not save it, and nothing needs it here


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one inside a checkpoint. Nothing in the file is run.

    Raises:
        ValueError: it cannot be read, or is no state dict.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds a pickled object, or is no file of torch.save; where it was made, save network.state_dict()"
        ) from None
    except Exception as error:  # torch raises whatever the damage leads to
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged ({said})") from None
    for name in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content:
        raise ValueError(f"{path} holds no state dict; where it was made, save network.state_dict()")
    return dict(content)


def fit(networks: Sequence[Network], state: Mapping[str, Tensor], where: str) -> Network:
    """Loads a state into that of some networks (with and without an auxiliary head) which has as many tensors.

    By names where these are ours, else position by position: DARTS's and DrNAS's code define their layers in the order
    that ours has, under other names. What has no numbers (pools, identities) has no position, so a state does not tell
    whether those of its genotype are the same.

    Args:
        where: the state comes from, for what is said of it.

    Raises:
        ValueError: none of the networks has as many tensors, or one is of another shape.
    """
    other = _counted(_once(state))
    sizes = [len(_counted(network.state_dict())) for network in networks]
    if len(other) not in sizes:
        raise ValueError(
            f"{where} is of another genotype or size: it has {len(other)} tensors, the network asked for "
            f"{' or '.join(map(str, sizes))} (with or without auxiliary head)"
        )
    network = networks[sizes.index(len(other))]
    own = _counted(network.state_dict())
    pairs = dict(zip(own, own if own.keys() == other.keys() else other, strict=True))
    for mine, name in pairs.items():
        if own[mine].shape != other[name].shape:
            theirs, ours = ("x".join(map(str, t.shape)) or "a number" for t in (other[name], own[mine]))
            raise ValueError(
                f"{where} is of another genotype or size: its {name} is {theirs}, "
                f"{mine} of the network asked for {ours}"
            )
    network.load_state_dict({mine: other[name] for mine, name in pairs.items()}, strict=False)
    return network


def _once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what is the same tensor under a second name: a decoder that is tied to its embedding."""
    first = {(value.data_ptr(), value.shape): name for name, value in reversed(list(state.items()))}
    return {name: value for name, value in state.items() if first[value.data_ptr(), value.shape] == name}


def _counted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}
