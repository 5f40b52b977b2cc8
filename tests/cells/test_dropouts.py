"""Each dropout's mask is the one that the papers mean: where it is applied, and over what it stays the same."""

import pytest
import torch
from torch import nn

from depthsearch.cells import lstm_network, random_recurrent_genotype, recurrent_network, recurrent_search_network
from depthsearch.cells.language import (
    PTB_DROPOUTS,
    SEARCH_DROPOUTS,
    WIKITEXT2_DROPOUTS,
    Dropouts,
    LanguageModel,
)

T, B, V, WIDTH = 5, 40, 50, 50


class Probe(nn.Module):
    """A cell that keeps what it is given and answers with ones."""

    def __init__(self, width):
        super().__init__()

    def forward(self, x, hidden, x_mask, h_mask):
        self.given = {"x": x, "x_mask": x_mask, "h_mask": h_mask}
        return torch.ones_like(x), hidden


def probed(x, training=True, **dropouts):
    """What the cell is given, and what the decoder is given, of a model whose embedding is the unit matrix plus one."""
    model = LanguageModel(V, WIDTH, Probe, **dropouts).train(training)
    with torch.no_grad():
        model.embedding.copy_(torch.eye(V))
        log_probs, _, _ = model(x, model.initial_hidden(x.shape[1]))
        logits = log_probs - log_probs.min(-1, keepdim=True).values  # of a unit matrix: the outputs after dropout
        model.embedding.copy_(torch.eye(V) + 1)
        model(x, model.initial_hidden(x.shape[1]))
    return model.cell.given | {"decoded": logits}


def words(seed=0):
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(seed))


def is_mask(mask, p):
    """Zeros and 1 / (1 - p), in about the right numbers."""
    kept = mask != 0
    torch.testing.assert_close(mask[kept], torch.full_like(mask[kept], 1 / (1 - p)))
    share, tolerance = 1 - float(kept.double().mean()), 5 * (p * (1 - p) / kept.numel()) ** 0.5
    return abs(share - p) < tolerance


def test_output_before_the_decoder_is_dropped_by_one_mask_for_all_times():
    torch.manual_seed(0)
    decoded = probed(words(), dropout=0.75)["decoded"]
    assert (decoded == decoded[0]).all() and is_mask(decoded[0], 0.75)
    assert len(decoded[0].unique(dim=0)) == B  # another mask for every text of the batch


def test_embedded_words_are_dropped_by_one_mask_for_all_times():
    torch.manual_seed(0)
    x = words()
    mask = probed(x, dropouti=0.2)["x"] / (torch.eye(V) + 1)[x]
    torch.testing.assert_close(mask, mask[:1].expand_as(mask))
    assert is_mask(mask[0], 0.2) and len(mask[0].round(decimals=4).unique(dim=0)) == B


def test_whole_words_are_dropped_for_all_times_and_texts():
    torch.manual_seed(0)
    x = (
        torch.arange(V).repeat_interleave(4).view(10, -1)
    )  # every word four times, at several times and in several texts
    factor = (probed(x, dropoute=0.3)["x"] / (torch.eye(V) + 1)[x]).flatten(0, 1)
    of_word = factor.view(V, 4, WIDTH)
    torch.testing.assert_close(of_word, of_word[:, :1, :1].expand_as(of_word))
    assert is_mask(of_word[:, 0, 0], 0.3)


@pytest.mark.parametrize(("name", "which"), [("dropoutx", "x_mask"), ("dropouth", "h_mask")])
def test_cell_is_given_one_mask_of_a_text_and_entry(name, which):
    torch.manual_seed(0)
    given = probed(words(), **{name: 0.25})
    assert given[which].shape == (B, WIDTH) and is_mask(given[which], 0.25)
    assert len(given[which].unique(dim=0)) == B
    assert given["h_mask" if which == "x_mask" else "x_mask"] is None


def test_masks_are_drawn_anew_every_call_from_torchs_generator_and_not_in_evaluation():
    network = recurrent_network("DARTS_V1_RNN", V, 8, **PTB_DROPOUTS)
    x, hidden = words(), network.initial_hidden(B)

    def run(seed):
        torch.manual_seed(seed)
        return torch.stack([network(x, hidden)[0] for _ in range(2)])

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(*first)
    network.eval()
    assert torch.equal(*run(0)) and torch.equal(run(0), run(1))
    given = probed(x, training=False, **SEARCH_DROPOUTS)
    assert given["x_mask"] is None and given["h_mask"] is None
    torch.testing.assert_close(given["x"], (torch.eye(V) + 1)[x])
    assert torch.equal(given["decoded"], torch.zeros(T, B, V))  # all outputs one, nothing dropped: all words alike


def highway(cell_input, state, matrix, function):
    gate, candidate = (cell_input @ matrix).chunk(2, -1)
    return state + gate.sigmoid() * (function(candidate) - state)


FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}


def genotype_oracle(cell, x, hidden, x_mask, h_mask, genotype):
    """Node by node and time by time: the masks multiply what a matrix sees, and nothing else."""
    h, outputs = hidden[0], []
    for word in x:
        states = [highway(torch.cat([word * x_mask, h * h_mask], -1), h, cell.first, torch.tanh)]
        for matrix, (name, state) in zip(cell.nodes, genotype.recurrent, strict=True):
            states.append(highway(states[state] * h_mask, states[state], matrix, FUNCTIONS[name]))
        h = sum(states[i] for i in genotype.concat) / len(genotype.concat)
        outputs.append(h)
    return torch.stack(outputs)


def search_oracle(cell, x, hidden, x_mask, h_mask, weights):
    def norm(s):
        return (s - s.mean(0)) / (s.var(0, correction=0) + 1e-5).sqrt()

    h, outputs = hidden[0], []
    for word in x:
        states, row = [norm(highway(torch.cat([word * x_mask, h * h_mask], -1), h, cell.first, torch.tanh))], 0
        for matrix in cell.nodes:
            total = torch.zeros_like(h)
            for s in states:
                for w, function in zip(weights[row, 1:], FUNCTIONS.values(), strict=True):
                    total = total + w * highway(s * h_mask, s, matrix, function)
                row += 1
            states.append(norm(total))
        h = sum(states[1:]) / 8
        outputs.append(h)
    return torch.stack(outputs)


def lstm_oracle(cell, x, hidden, x_mask, h_mask):
    (h, c), outputs = hidden, []
    for word in x:
        i, f, g, o = (cell.of_x @ (word * x_mask).T + cell.of_h @ (h * h_mask).T + cell.bias[:, None]).T.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("kind", ["genotype", "search", "lstm"])
def test_cells_use_their_masks_at_all_times_and_nodes_where_a_matrix_multiplies(kind):
    torch.manual_seed(0)
    width, size, genotype = 6, 4, random_recurrent_genotype(1)
    weights = torch.rand(36, 5, dtype=torch.float64).softmax(-1)
    of_state = [weights[[i * (i - 1) // 2 + j for i in range(j + 1, 9)]] for j in range(8)]
    network, oracle, extra, own = {
        "genotype": (recurrent_network(genotype, 9, width), genotype_oracle, (genotype,), ()),
        "search": (recurrent_search_network(9, width), search_oracle, (weights,), of_state),
        "lstm": (lstm_network(9, width), lstm_oracle, (), ()),
    }[kind]
    cell = network.double().cell
    with torch.no_grad():
        for p in cell.parameters():
            p.normal_()
    x, hidden = torch.randn(T, size, width).double(), torch.randn(network.hidden_states, size, width).double()
    x_mask, h_mask = (torch.rand(size, width).double().round() / 0.5 for _ in range(2))
    outputs, _ = cell(x, hidden, x_mask, h_mask, *own)
    torch.testing.assert_close(outputs, oracle(cell, x, hidden, x_mask, h_mask, *extra), rtol=0, atol=1e-9)


def test_the_papers_dropouts():
    assert Dropouts(**SEARCH_DROPOUTS) == Dropouts(0.75, 0.25, 0.75, 0.2, 0)
    assert Dropouts(**PTB_DROPOUTS) == Dropouts(0.75, 0.25, 0.75, 0.2, 0.1)
    assert Dropouts(**WIKITEXT2_DROPOUTS) == Dropouts(0.75, 0.15, 0.75, 0.2, 0.1)
    assert recurrent_search_network(V, WIDTH).dropouts == Dropouts(0, 0, 0, 0, 0)
