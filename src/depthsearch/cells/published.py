"""The published architectures, as plain values; `genotype.GENOTYPES` holds them checked.

A cell is written "operation~state operation~state | ...": the edges of a node, then those of the next. The order within
a node is that of the authors' code: it is the order of a network's weights.
"""

from collections.abc import Sequence


def _nodes(text: str) -> list[tuple[str, int]]:
    pairs = (edge.split("~") for edge in text.replace("|", " ").split())
    return [(name, int(state)) for name, state in pairs]


def _cell(
    normal: str, reduce: str, normal_concat: Sequence[int] = (2, 3, 4, 5), reduce_concat: Sequence[int] = (2, 3, 4, 5)
) -> dict:
    return {
        "normal": _nodes(normal),
        "normal_concat": normal_concat,
        "reduce": _nodes(reduce),
        "reduce_concat": reduce_concat,
    }


def _recurrent(nodes: str, concat: Sequence[int]) -> dict:
    return {"recurrent": _nodes(nodes), "concat": concat}


PUBLISHED: dict[str, dict] = {
    # Liu, Simonyan & Yang, DARTS, arXiv 1806.09055: first order (V1) and second order (V2, figures 4 and 5)
    "DARTS_V1": _cell(
        "sep_conv_3x3~1 sep_conv_3x3~0 | skip_connect~0 sep_conv_3x3~1 | skip_connect~0 sep_conv_3x3~1 | "
        "sep_conv_3x3~0 skip_connect~2",
        "max_pool_3x3~0 max_pool_3x3~1 | skip_connect~2 max_pool_3x3~0 | max_pool_3x3~0 skip_connect~2 | "
        "skip_connect~2 avg_pool_3x3~0",
    ),
    "DARTS_V2": _cell(
        "sep_conv_3x3~0 sep_conv_3x3~1 | sep_conv_3x3~0 sep_conv_3x3~1 | sep_conv_3x3~1 skip_connect~0 | "
        "skip_connect~0 dil_conv_3x3~2",
        "max_pool_3x3~0 max_pool_3x3~1 | skip_connect~2 max_pool_3x3~1 | max_pool_3x3~0 skip_connect~2 | "
        "skip_connect~2 max_pool_3x3~1",
    ),
    # Zoph, Vasudevan, Shlens & Le, arXiv 1707.07012, cell A, as DARTS trains it
    "NASNet": _cell(
        "sep_conv_5x5~1 sep_conv_3x3~0 | sep_conv_5x5~0 sep_conv_3x3~0 | avg_pool_3x3~1 skip_connect~0 | "
        "avg_pool_3x3~0 avg_pool_3x3~0 | sep_conv_3x3~1 skip_connect~1",
        "sep_conv_5x5~1 sep_conv_7x7~0 | max_pool_3x3~1 sep_conv_7x7~0 | avg_pool_3x3~1 sep_conv_5x5~0 | "
        "skip_connect~3 avg_pool_3x3~2 | sep_conv_3x3~2 max_pool_3x3~1",
        normal_concat=(2, 3, 4, 5, 6),
        reduce_concat=(4, 5, 6),
    ),
    # Real, Aggarwal, Huang & Le, arXiv 1802.01548, cell A, as DARTS trains it
    "AmoebaNet": _cell(
        "avg_pool_3x3~0 max_pool_3x3~1 | sep_conv_3x3~0 sep_conv_5x5~2 | sep_conv_3x3~0 avg_pool_3x3~3 | "
        "sep_conv_3x3~1 skip_connect~1 | skip_connect~0 avg_pool_3x3~1",
        "avg_pool_3x3~0 sep_conv_3x3~1 | max_pool_3x3~0 sep_conv_7x7~2 | sep_conv_7x7~0 avg_pool_3x3~1 | "
        "max_pool_3x3~0 max_pool_3x3~1 | conv_7x1_1x7~0 sep_conv_3x3~5",
        normal_concat=(4, 5, 6),
        reduce_concat=(3, 4, 6),
    ),
    # Xu et al., PC-DARTS, arXiv 1907.05737: searched on CIFAR-10 and on ImageNet
    "PC_DARTS_cifar": _cell(
        "sep_conv_3x3~1 skip_connect~0 | sep_conv_3x3~0 dil_conv_3x3~1 | sep_conv_5x5~0 sep_conv_3x3~1 | "
        "avg_pool_3x3~0 dil_conv_3x3~1",
        "sep_conv_5x5~1 max_pool_3x3~0 | sep_conv_5x5~1 sep_conv_5x5~2 | sep_conv_3x3~0 sep_conv_3x3~3 | "
        "sep_conv_3x3~1 sep_conv_3x3~2",
    ),
    "PC_DARTS_image": _cell(
        "skip_connect~1 sep_conv_3x3~0 | sep_conv_3x3~0 skip_connect~1 | sep_conv_3x3~1 sep_conv_3x3~3 | "
        "sep_conv_3x3~1 dil_conv_5x5~4",
        "sep_conv_3x3~0 skip_connect~1 | dil_conv_5x5~2 max_pool_3x3~1 | sep_conv_3x3~2 sep_conv_3x3~1 | "
        "sep_conv_5x5~0 sep_conv_3x3~3",
    ),
    # Chen et al., DrNAS, arXiv 2006.10355: progressive search on CIFAR-10 and on ImageNet
    "DrNAS_cifar10": _cell(
        "sep_conv_3x3~0 sep_conv_5x5~1 | sep_conv_3x3~1 sep_conv_3x3~2 | skip_connect~0 sep_conv_3x3~1 | "
        "sep_conv_3x3~2 dil_conv_5x5~3",
        "max_pool_3x3~0 sep_conv_5x5~1 | dil_conv_5x5~2 sep_conv_5x5~1 | sep_conv_5x5~1 dil_conv_5x5~3 | "
        "skip_connect~4 sep_conv_5x5~1",
    ),
    "DrNAS_imagenet": _cell(
        "sep_conv_3x3~1 sep_conv_3x3~0 | sep_conv_3x3~0 sep_conv_3x3~1 | sep_conv_3x3~0 dil_conv_3x3~3 | "
        "skip_connect~0 sep_conv_3x3~1",
        "max_pool_3x3~0 sep_conv_3x3~1 | sep_conv_3x3~0 skip_connect~2 | sep_conv_3x3~0 sep_conv_3x3~2 | "
        "sep_conv_3x3~3 sep_conv_3x3~1",
    ),
    # Recurrent: DARTS, figure 6 and code; Pham et al., ENAS, arXiv 1802.03268, as DARTS trains it
    "DARTS_V1_RNN": _recurrent("relu~0 relu~1 tanh~2 relu~3 relu~4 identity~1 relu~5 relu~1", range(1, 9)),
    "DARTS_V2_RNN": _recurrent("sigmoid~0 relu~1 relu~1 identity~1 tanh~2 sigmoid~5 tanh~3 relu~5", range(1, 9)),
    "ENAS_RNN": _recurrent(
        "tanh~0 tanh~1 relu~1 tanh~3 tanh~3 relu~3 relu~4 relu~7 relu~8 relu~8 relu~8", (2, 5, 6, 9, 10, 11)
    ),
}
