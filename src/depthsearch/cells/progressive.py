"""What widening a space tells whoever trains it."""

from collections.abc import Callable

from torch import Tensor, nn

# What became of each parameter: the one in its place, and how a tensor of its old shape (momentum, say) grows.
Grown = dict[nn.Parameter, tuple[nn.Parameter, Callable[[Tensor], Tensor]]]
