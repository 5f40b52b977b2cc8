"""Copies for checkpoints."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def on_cpu(value: Any) -> Any:
    """A copy of nested dicts and lists, their tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: on_cpu(one) for key, one in value.items()}
    return [on_cpu(one) for one in value] if isinstance(value, list | tuple) else value
