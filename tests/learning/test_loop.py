"""The loop around an epoch: what is kept, when it stops, what a checkpoint holds, and when q is conditioned."""

import math
from dataclasses import replace

import pytest
import torch

from depthsearch import CategoricalDepth, ExactDepth, FixedDepth, conv_resnet, geometric_prior, mlp_resnet
from depthsearch.data.spirals import spiral_split
from depthsearch.data.split import Split
from depthsearch.learning.loop import DepthLearner, train
from depthsearch.learning.method import Selection, Training
from depthsearch.learning.trained import Best
from depthsearch.measuring.depths import exact_posterior, predict
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood


def learner(seeds=(0, 1), epochs=12, max_depth=2, held_out=0.25, **options):
    torch.manual_seed(0)
    networks = [mlp_resnet(max_depth, 6) for _ in seeds]
    depths = [CategoricalDepth(geometric_prior(max_depth)) for _ in seeds]
    splits = [spiral_split(120, 360.0, 0.2, seed) for seed in seeds]
    splits = [split.hold_out(held_out, seed) for split, seed in zip(splits, seeds, strict=True)] if held_out else splits
    training = options.pop("training", Training(epochs=epochs, eval_every=5))
    return DepthLearner(networks, depths, splits, training, list(seeds), **options)


def test_best_takes_the_rows_that_improve():
    state = torch.arange(6.0).reshape(3, 2)
    best = Best(state)
    best.update(1, torch.tensor([1.0, math.nan, -2.0]), state + 10)
    best.update(2, torch.tensor([1.0, 5.0, -1.0]), state + 20)  # an equal value is no better one
    assert best.epoch.tolist() == [1, 2, 2] and best.value.tolist() == [1.0, 5.0, -1.0]
    assert torch.equal(best.state, state + torch.tensor([[10.0], [20.0], [20.0]]))
    best.keep([2, 0])
    assert best.epoch.tolist() == [2, 1] and torch.equal(best.state[1], state[0] + 10)


@pytest.mark.parametrize("by", ["elbo", "log_likelihood"])
def test_the_epoch_kept_is_the_one_selected(by):
    """From half of the epochs on, the best of those at which there was a look at the validation points."""
    one = learner(epochs=20, selection=Selection(by, every=3, settle=0.5))
    assert list(one.epochs()) == list(range(1, 21))
    for result in one.learned():
        assert [row["epoch"] for row in result.history] == [3, 6, 9, 12, 15, 18, 20]
        late = [row for row in result.history if row["epoch"] > 10]
        assert result.best_epoch == max(late, key=lambda row: row[f"valid_{by}"])["epoch"]
    assert one.progress().startswith("objective -") and "d_opt" in one.progress()
    assert one.histories() == [result.history for result in one.learned()] and one.about() == {"compiled": False}


def test_patience_counts_from_where_depth_has_settled():
    training = Training(epochs=40, patience=3, learning_rate=0.0)  # the objective stays where it is
    for settle, last in ((0.0, 4), (0.5, 24)):
        one = learner(training=training, held_out=0, selection=Selection(settle=settle))
        assert list(one.epochs())[-1] == last and {r.best_epoch for r in one.learned()} == {last - 3}


def test_validation_points_that_are_none_are_refused():
    split = spiral_split(120, 360.0, 0.2, 0)
    split = replace(split, x_valid=split.x_test[:0], y_valid=split.y_test[:0])
    with pytest.raises(ValueError, match="no validation points"):
        train([mlp_resnet(1, 4)], [FixedDepth(1)], [split], Training(epochs=2), [0])


def test_a_checkpoint_is_plain_values_and_says_where_it_is(tmp_path):
    one = learner()
    assert [c["epoch"] for c in one.checkpoint()] == [0, 0] and one.progress() == "not evaluated yet"
    epochs = one.epochs()
    assert [next(epochs) for _ in range(5)] == [1, 2, 3, 4, 5]
    torch.save(one.checkpoint(), tmp_path / "c.pt")
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    assert {c["epoch"] for c in saved} == {5} and all(len(c["objective"]) == 5 for c in saved)
    with pytest.raises(ValueError, match="has not ended"):
        one.learned()
    list(epochs)
    again = learner(resume=saved)
    assert list(again.epochs()) == list(range(6, 13))
    for a, b in zip(one.learned(), again.learned(), strict=True):
        assert (a.objective, a.history, a.best_epoch) == (b.objective, b.history, b.best_epoch)
        assert set(a.state()) == {"network", "depth"}
    assert list(learner(resume=one.checkpoint(), epochs=8).epochs()) == []  # asked for fewer than are done


@pytest.mark.parametrize("wrong", [{"by": "loss"}, {"every": 0}, {"settle": 1.0}, {"settle": -0.1}])
def test_a_selection_that_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="got"):
        Selection(**wrong)


@pytest.mark.parametrize("method", [ExactPosterior(), MarginalLikelihood()])
def test_q_is_that_of_the_weights_and_of_their_statistics(method):
    """On a network with batch norm whose statistics are estimated anew at the end of an epoch, after which q is set."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 1, 8, 8), torch.arange(40) % 4
    x += y[:, None, None, None] / 2
    split = Split(x, y, x[:8], y[:8])
    network, training = conv_resnet(3, 1, 4, 8, 4, stem_kernel=3), Training(3, batch_size=8, norm_batches=4)
    (result,) = train([network], [method.posterior(3)], [split], training, [0], method=method)
    assert isinstance(result.depth, ExactDepth)
    expected = exact_posterior(predict(result.network, result.depth, x), y, result.depth)
    torch.testing.assert_close(result.depth().logits.double(), expected, rtol=1e-4, atol=1e-3)


def test_a_run_that_diverges_by_its_last_step_is_said_to():
    """Its objective, from before that step, is finite."""
    start = [mlp_resnet(2, 4)], [CategoricalDepth(geometric_prior(2))], [spiral_split(400, 360.0, 0.1, 0)]
    (trained,) = train(*start, Training(epochs=1, learning_rate=math.inf), [0])
    assert trained.diverged_epoch == 1 and math.isfinite(trained.history[0]["elbo"])
    (sound,) = train([mlp_resnet(2, 4)], [FixedDepth(2, 1)], start[2], Training(epochs=1), [0])
    assert sound.diverged_epoch is None
