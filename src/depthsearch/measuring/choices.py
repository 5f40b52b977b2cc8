"""What is measured of a choice of depth: three ways of predicting, its cost, and how it behaves off the data."""

import copy
import math

import torch
from torch import Tensor

from depthsearch.data.split import Split
from depthsearch.depth.convolutional import DepthBatchNorm
from depthsearch.depth.networks import DepthNetwork
from depthsearch.depth.posteriors import DepthPosterior, FixedDepth
from depthsearch.depth.pruning import expected_depth, prune
from depthsearch.hardware import products_in
from depthsearch.learning.method import PAPER, Method, Training
from depthsearch.learning.replicates import average_norms
from depthsearch.learning.trained import Trained
from depthsearch.measuring.metrics import metrics

SHOWN_METRICS = ("error", "log_likelihood", "brier", "ece")  # that tables of choices show
DEGREES = tuple(range(0, 181, 15))
DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)  # in standard deviations of the training points
SHIFTED, BATCH = 2000, 2048  # test points moved, at most, and points predicted at once


def evaluate_choice(method: Method, trained: Trained, split: Split, training: Training, shift: bool = True) -> dict:
    """Everything that tables and figures need to know of a strategy trained in one run, as plain numbers.

    Returns:
        `pruned_depth`, the chosen one, `expected_depth` and `q`; `variants`: the metric sets of the test and validation
        points as `searched`, with the weights of all depths, and `truncated`, cut at the chosen depth with the weights
        that there are: a posterior moves its mass beyond onto that depth (`prune`), of a mixture that depth alone is
        kept; how many `heads` are mixed then; `shift`: rows of the test points moved, as searched; `costs`:
        `block_evaluations` (blocks run forward x points, selection included, but for `Training.norm_batches`),
        `networks` trained, `step_bytes`.
    """
    network, depth = trained.network, trained.depth
    q = depth().probs.detach()
    chosen = method.chosen_depth(q)
    predictors = {"searched": (method, network, depth)}
    variants: dict[str, dict] = {"searched": {"depth": chosen}}
    if not isinstance(depth, FixedDepth):
        if method.depthwise:
            cut, heads = (method, *prune(network, depth, chosen)), chosen + 1
        else:
            alone = with_statistics_per_depth(network, split, training.batch_size)
            cut, heads = (PAPER, alone, FixedDepth(network.max_depth, chosen).to(q.device)), 1
        predictors["truncated"], variants["truncated"] = cut, {"depth": chosen, "heads": heads}
    for mode, predictor in predictors.items():
        for name in ("valid", "test"):
            x, y = getattr(split, f"x_{name}"), getattr(split, f"y_{name}")
            if x is not None:
                found = metrics(log_probabilities(*predictor, split, x), y)
                variants[mode] |= {f"{name}_{k}": v for k, v in found.items()}
    return {
        "pruned_depth": chosen,
        "expected_depth": expected_depth(q),
        "q": q.tolist(),
        "variants": variants,
        "shift": under_shift(*predictors["searched"], split) if shift else [],
        "costs": costs_of(method, trained, split, training),
    }


def costs_of(method: Method, trained: Trained, split: Split, training: Training) -> dict[str, float]:
    """What training cost, `costs` of `evaluate_choice`; one that diverged has cost the epochs until then."""
    depth = trained.depth
    n_valid = 0 if split.y_valid is None else len(split.y_valid)
    blocks = method.block_evaluations(depth, len(split.y_train), len(trained.objective), training.epochs)
    return {
        "block_evaluations": blocks + depth.max_depth * n_valid * len(trained.history),
        "networks": 1,
        "step_bytes": step_bytes(method, trained.network, depth, split, training),
    }


@torch.no_grad()
def log_probabilities(method: Method, network: DepthNetwork, depth: DepthPosterior, split: Split, x: Tensor) -> Tensor:
    """Log p(y | x) as the method predicts it, in evaluation mode: x (N, ...) -> (N, C)."""
    network.eval()
    parts = (split.inputs(part) for part in x.split(BATCH))
    with products_in("float32"):
        if isinstance(depth, FixedDepth):
            found = [network(part, depth.min_depth, depth.min_depth)[0].log_softmax(-1) for part in parts]
        else:
            found = [method.log_predictive(method.outputs(network, depth, part), depth) for part in parts]
    return torch.cat(found)


def with_statistics_per_depth(network: DepthNetwork, split: Split, batch_size: int) -> DepthNetwork:
    """A copy whose head's batch norm has seen every depth: a mixture of features trains the statistics of D alone."""
    network = copy.deepcopy(network)
    if any(isinstance(module, DepthBatchNorm) for module in network.modules()):
        network.eval().head.train()
        batches = zip(split.x_train.split(batch_size), split.y_train.split(batch_size), strict=True)
        average_norms(network.head, ((split.inputs(x), y) for x, y in batches), network)
    return network.eval()


def under_shift(method: Method, network: DepthNetwork, depth: DepthPosterior, split: Split) -> list[dict]:
    """One row an amount of shift: `shift`, log-likelihood, error and ECE on `SHIFTED` test points moved, and `auroc`.

    Images are rotated by `DEGREES`. Points of the plane move away from the origin by `DISTANCES`; they keep their
    labels, which say less and less. `auroc`: of the predictive entropy, for telling moved from unmoved points.
    """
    from sklearn.metrics import roc_auc_score
    from torchvision.transforms.functional import InterpolationMode, rotate

    points, y = split.x_test[:SHIFTED], split.y_test[:SHIFTED]
    images = points.dim() == 4
    rows, unmoved = [], None
    for amount in DEGREES if images else DISTANCES:
        if images:
            x = rotate(points, float(amount), InterpolationMode.BILINEAR)
        else:
            x = points * (1 + amount / points.norm(dim=1, keepdim=True).clamp(min=1e-6))
        log_probs = log_probabilities(method, network, depth, split, x)
        entropy = -(log_probs.exp() * log_probs).sum(-1).cpu()
        unmoved = entropy if unmoved is None else unmoved
        found = metrics(log_probs, y)
        labels, both = torch.cat([torch.zeros(len(unmoved)), torch.ones(len(entropy))]), torch.cat([unmoved, entropy])
        told_apart = float(roc_auc_score(labels, both)) if both.isfinite().all() else math.nan  # logits may overflow
        row: dict = {"shift": float(amount)} | {k: found[k] for k in ("log_likelihood", "error", "ece")}
        rows.append(row | {"auroc": told_apart})
    return rows


def step_bytes(method: Method, network: DepthNetwork, depth: DepthPosterior, split: Split, training: Training) -> int:
    """Memory of a training step of one network in float32: parameters, gradient, momentum, what backward keeps.

    Counted by autograd on the plain modules, the same for all methods and machines; the fused paths need somewhat less,
    and the second order of DARTS a few copies of the parameters more.
    """
    n = training.batch_sizes(len(split.y_train) // (1 if method.depthwise else 2))[0]
    network, kept = copy.deepcopy(network).train(), {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept[0] = method.outputs(network, depth, split.inputs(split.x_train[:n])).nbytes
    own = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in network.parameters()}
    return sum((kept | own).values()) + 2 * sum(p.nbytes for p in network.parameters())
