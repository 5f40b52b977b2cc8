"""Language models are trained as the papers say, against loops written out, and go on bit for bit."""

import math

import pytest
import torch
import torch.nn.functional as F

from depthsearch.cells import lstm_network, random_recurrent_genotype, recurrent_network
from depthsearch.cells.language import PTB_DROPOUTS
from depthsearch.data.files import DataError
from depthsearch.data.text import batchify, generated_text, pieces, sequence_lengths
from depthsearch.learning import text as text_module
from depthsearch.learning.averaging import Averaging
from depthsearch.learning.text import TextLearner, TextTraining, evaluate, perplexity

TEXT = generated_text(3000, 20, seed=0)
SMALL = generated_text(600, 20, seed=0)
SHORT = TextTraining(epochs=3, batch_size=10, eval_batch_size=5, bptt=12, patience=0)


def network(width=8, seed=0, **dropouts):
    torch.manual_seed(seed)
    return recurrent_network(random_recurrent_genotype(0), TEXT.n_words, width, **dropouts)


def unigram_loss(text):
    counts = torch.bincount(text.train, minlength=text.n_words).double() + 1
    return float(-(counts / counts.sum()).log()[text.test[1:]].mean())


@pytest.mark.slow
@pytest.mark.parametrize("make", [recurrent_network, lstm_network])
def test_a_random_cell_and_an_lstm_learn_to_predict_what_word_counts_cannot(make):
    torch.manual_seed(0)
    size = TEXT.n_words, 24
    model = make(random_recurrent_genotype(1), *size) if make is recurrent_network else make(*size)
    learner = TextLearner(model, TEXT, TextTraining(epochs=8, batch_size=10, bptt=12, learning_rate=10.0), seed=0)
    assert list(learner.epochs()) == list(range(1, 9)) == [row["epoch"] for row in learner.history]
    assert learner.best_loss == min(row["valid_loss"] for row in learner.history)
    learner.learned()
    assert perplexity(evaluate(model, TEXT.test)) < 0.6 * perplexity(unigram_loss(TEXT))


def test_evaluation_is_the_mean_over_all_words_that_have_one_before_them():
    model = network().double().eval()
    words = TEXT.test[:57]
    log_probs, _, _ = model(words[:-1].unsqueeze(1), model.initial_hidden(1))
    expected = -log_probs[:, 0].gather(1, words[1:].unsqueeze(1)).mean().item()
    assert evaluate(model, words, bptt=10) == pytest.approx(expected, abs=1e-12)
    assert evaluate(model, words, bptt=56) == evaluate(model, words, bptt=1000)
    assert evaluate(model, words, faithful=True) == pytest.approx(expected * 56 / 57, abs=1e-12)
    halves = [evaluate(model, half) for half in words[:56].split(28)]
    assert evaluate(model, words, batch_size=2) == pytest.approx(sum(halves) / 2, abs=1e-12)


def test_products_are_of_float32_whatever_the_process_does_else():
    """A container may have TF32 on: then a perplexity would be another one."""
    model, seen = network(), []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cuda.matmul.allow_tf32))
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        next(TextLearner(model, SMALL, SHORT, seed=0).epochs())
        evaluate(model, SMALL.test)
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert seen and not any(seen)


def test_evaluation_gives_one_number_and_leaves_the_mode():
    model = network(**PTB_DROPOUTS)
    first = evaluate(model, TEXT.test)
    assert evaluate(model, TEXT.test) == first and model.training
    model.eval()
    assert evaluate(model, TEXT.test) == first and not model.training


def test_an_epoch_is_the_loop_written_out():
    how = TextTraining(epochs=1, batch_size=10, bptt=12, activation=0.3, temporal=0.2, weight_decay=1e-3)
    ours, oracle = network(seed=3).double(), network(seed=3).double()
    learner = TextLearner(ours, TEXT, how, seed=7)
    (_,), (row,) = learner.epochs(), learner.history
    rows, hidden, total = batchify(TEXT.train, 10), oracle.initial_hidden(10), 0.0
    lengths = sequence_lengths(12, torch.Generator().manual_seed(7))
    norms, n = [], 0
    for x, y, length in pieces(rows, lengths):
        log_probs, hidden, outputs = oracle(x, hidden)
        loss = F.cross_entropy(log_probs.flatten(0, 1), y.flatten())
        total, n = total + loss.item() * len(x), n + len(x)
        loss = loss + 0.3 * outputs.square().mean()
        if len(x) > 1:
            loss = loss + 0.2 * (outputs[1:] - outputs[:-1]).square().mean()
        parameters = list(oracle.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        hidden = hidden.detach()
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
        scale = min(1.0, how.clip / (norms[-1] + 1e-6))
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= how.learning_rate * length / 12 * (scale * g + how.weight_decay * p)
    assert min(norms) < how.clip < max(norms)  # what is clipped and what is not both occur
    for p, q in zip(ours.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-9)
    assert row["train_loss"] == pytest.approx(total / n, abs=1e-6)
    assert row["valid_loss"] == pytest.approx(evaluate(oracle, TEXT.valid, 10), abs=1e-9)


def test_a_saved_state_goes_on_bit_for_bit_whatever_else_draws(tmp_path):
    model = network(**PTB_DROPOUTS)
    learner = TextLearner(model, SMALL, SHORT, seed=1)
    epochs = learner.epochs()
    next(epochs)
    next(epochs)
    torch.save(learner.checkpoint(), tmp_path / "checkpoint.pt")
    before = torch.get_rng_state()
    next(epochs)
    assert torch.equal(torch.get_rng_state(), before)
    resume = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert resume[0]["epoch"] == 2
    other = TextLearner(network(seed=9, **PTB_DROPOUTS), SMALL, SHORT, seed=5, resume=resume)
    torch.rand(100)
    (best,) = TextLearner(network(seed=9, **PTB_DROPOUTS), SMALL, SHORT, seed=5, resume=resume).learned()
    best_loss = min(row["valid_loss"] for row in resume[0]["history"])
    assert evaluate(best.network, SMALL.valid, 5, SHORT.bptt) == best_loss
    assert list(other.epochs()) == [3]
    assert other.history == learner.history
    for ours, theirs in ((learner, other),):
        for p, q in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
            assert torch.equal(p, q)
    learner.learned()
    other.learned()
    assert evaluate(learner.network, TEXT.test) == evaluate(other.network, TEXT.test)


@pytest.mark.slow
def test_averaging_starts_and_the_best_state_is_the_averaged_one():
    how = TextTraining(epochs=5, batch_size=10, bptt=12, patience=0, learning_rate=30.0)
    learner = TextLearner(network(24), TEXT, how, seed=0)
    assert len(list(learner.epochs())) == 5
    rows = learner.history
    losses = [row["valid_loss"] for row in rows]
    rises = [k for k in range(1, 5) if losses[k] > min(losses[:k])]
    assert rises and [row["averaged"] for row in rows] == [k > rises[0] for k in range(5)]
    assert min(losses) == min(losses[rises[0] + 1 :])  # averaging pays
    last = evaluate(learner.network, TEXT.valid, 10, how.bptt)
    learner.learned()
    assert evaluate(learner.network, TEXT.valid, 10, how.bptt) == min(losses)
    assert last > min(losses)


def test_an_epoch_whose_loss_is_no_number_is_done_again_from_the_last(monkeypatch):
    model = network(**PTB_DROPOUTS)
    learner = TextLearner(model, SMALL, SHORT, seed=1)
    epochs = learner.epochs()
    next(epochs)
    learner._averaging.observe(1e9)  # from here on steps are averaged, and the averages, too, must be put back
    start = {name: t.clone() for name, t in model.state_dict().items()}
    starts, losses, true_loss = [], [], text_module.word_loss

    def broken_at_first(log_probs, y):
        if model.training:
            losses.append(true_loss(log_probs, y).item())
            if len(losses) == 3:
                return true_loss(log_probs, y) * math.nan
        return true_loss(log_probs, y)

    one_pass = TextLearner._one_pass

    def watched(self):
        starts.append({name: t.clone() for name, t in model.state_dict().items()})
        return one_pass(self)

    monkeypatch.setattr(text_module, "word_loss", broken_at_first)
    monkeypatch.setattr(TextLearner, "_one_pass", watched)
    assert next(epochs) == 2
    row = learner.history[-1]
    assert row["attempts"] == 2 and row["epoch"] == 2 and math.isfinite(row["train_loss"])
    assert len(starts) == 2
    for state in starts:
        assert all(torch.equal(t, start[name]) for name, t in state.items())
    assert all(p.isfinite().all() for p in model.parameters())

    monkeypatch.setattr(text_module, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(text_module, "word_loss", lambda log_probs, y: true_loss(log_probs, y) * math.nan)
    assert list(epochs) == [3] and len(starts) == 5 and len(learner.history) == 2
    (fitted,) = learner.learned()
    assert fitted.diverged_epoch == 3 and learner.checkpoint()[0]["epoch"] == 3
    assert list(TextLearner(model, SMALL, SHORT, 1, learner.checkpoint()).epochs()) == []
    assert all(p.isfinite().all() for p in model.parameters())


def test_too_short_a_text_is_refused_before_training():
    for how in (TextTraining(batch_size=1001), TextTraining(eval_batch_size=101)):
        with pytest.raises(DataError, match="is too short for"):
            TextLearner(network(), TEXT, how, seed=0)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"bptt": 0}, {"clip": 0.0}, {"temporal": -1.0}, {"patience": -1}])
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        TextTraining(**wrong)


def test_perplexity():
    assert perplexity(math.log(55.7)) == pytest.approx(55.7)
    assert perplexity(1e4) == math.inf and math.isnan(perplexity(math.nan))
    assert not Averaging([torch.zeros(1)]).started
