"""Augmentation of a batch at once, against a loop over images."""

import torch

from depthsearch.data.augment import Augmentation, crop_and_flip, cutout
from depthsearch.data.split import Split


def images(n=40, size=8):
    return torch.randint(1, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_crop_and_flip_is_that_of_a_loop():
    x, pad, size = images(), 2, 8
    ours = crop_and_flip(x, pad, True, generator())
    draws = generator()
    down, right = torch.randint(2 * pad + 1, (2, len(x)), generator=draws)
    mirrored = torch.randint(2, (len(x), 1), generator=draws)
    for i, image in enumerate(x):
        framed = torch.zeros(3, size + 2 * pad, size + 2 * pad, dtype=torch.uint8)
        framed[:, pad : pad + size, pad : pad + size] = image
        crop = framed[:, down[i] : down[i] + size, right[i] : right[i] + size]
        assert ours[i].equal(crop.flip(-1) if mirrored[i] else crop)
    assert 5 < int(mirrored.sum()) < 35 and len(set(down.tolist())) == 2 * pad + 1
    assert ours.dtype == torch.uint8


def test_without_crop_and_flip_nothing_changes():
    x = images()
    assert crop_and_flip(x, 0, False, generator()).equal(x)


def test_cutout_is_that_of_a_loop():
    x, side, size = images().float(), 4, 8
    ours = cutout(x, side, generator())
    draws = generator()
    rows, columns = (torch.randint(size, (len(x), 1), generator=draws) for _ in range(2))
    for i, image in enumerate(x):
        expected, row, column = image.clone(), int(rows[i]), int(columns[i])
        half = side // 2
        expected[:, max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
        assert ours[i].equal(expected)
    covered = (ours == 0)[:, 0].flatten(1).sum(1)
    assert int(covered.max()) == side * side and int(covered.min()) == (side // 2) ** 2  # some lie partly outside


def test_all_in_one_is_normalised_and_seeded():
    x = images()
    split = Split(x, x, x, x, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    plain = Augmentation(pad=0, flip=False)(split, x, generator())
    torch.testing.assert_close(plain, split.inputs(x))
    change = Augmentation(pad=2, cutout=4)
    one, same, other = (change(split, x, generator(seed)) for seed in (5, 5, 6))
    assert one.equal(same) and not one.equal(other) and one.dtype == torch.float32
    draws = generator(5)
    by_hand = cutout(split.inputs(crop_and_flip(x, 2, True, draws)), 4, draws)
    assert one.equal(by_hand)
