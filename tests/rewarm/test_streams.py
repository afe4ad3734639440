"""Blending, packing and generated languages against plain restatements of the protocol."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import seeds
from bench.data import blend, languages, shards
from bench.errors import UserError
from bench.rewarm import streams
from bench.rewarm.spec import PretrainSpec


def blended_by_the_protocol(weights: list[float], length: int) -> list[int]:
    """For sample i the source with the largest w_j max(i, 1) - taken_j; the first wins ties.

    Source: bench/rewarm/protocol.md, section c.
    """
    total = sum(weights)
    taken = [0] * len(weights)
    order = []
    for i in range(length):
        deficits = [weight * max(i, 1) - total * had for weight, had in zip(weights, taken, strict=True)]
        source = deficits.index(max(deficits))
        order.append(source)
        taken[source] += 1
    return order


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_blend_is_the_protocols_at_any_position(weights: list[int], position: int) -> None:
    common = math.gcd(*weights)
    counts = tuple(weight // common for weight in weights)
    order = blended_by_the_protocol(list(counts), position + 40)
    sources, numbers = blend.blend(counts, position, 40)
    assert sources.tolist() == order[position:]
    for offset, (source, number) in enumerate(zip(sources, numbers, strict=True)):
        assert number == order[: position + offset].count(source)


def test_blend_of_the_papers_weights_keeps_its_shares() -> None:
    weights = [2.0, 2.5, 4.5, 4.5, 4.5, 15.0, 67.0]
    counts = blend.parts(weights, list("abcdefg"))
    assert counts == (4, 5, 9, 9, 9, 30, 134)
    sources, _ = blend.blend(counts, 0, 5000)
    for index, weight in enumerate(weights):
        drawn = np.cumsum(sources == index)
        assert np.abs(drawn - weight / 100 * np.arange(1, 5001)).max() <= 1.5


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((1 / 3, 1 / 3, 1 / 3), (1, 1, 1)),
        ((100 / 3, 100 / 3, 100 / 3), (1, 1, 1)),
        ((33.33, 33.33, 33.33), (1, 1, 1)),
        ((0.333, 0.333, 0.333), (1, 1, 1)),
        ((2 / 3, 1 / 6, 1 / 6), (4, 1, 1)),
        ((1 / 7, 2 / 7, 4 / 7), (1, 2, 4)),
        ((1 / 11, 10 / 11), (1, 10)),
        (
            tuple(weight / 91 for weight in (2, 2.5, 4.5, 15, 67)),
            (4, 5, 9, 30, 134),
        ),  # five of the paper's seven sources
        ((0.1,) * 10, (1,) * 10),
        ((0.3333, 0.6667), (3333, 6667)),  # these sum to 1 as they are
    ],
)
def test_weights_that_miss_their_sum_by_rounding(weights: tuple[float, ...], counts: tuple[int, ...]) -> None:
    assert blend.parts(weights, [f"source {number}" for number in range(len(weights))]) == counts


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.5, 0.4), "sum to 0.9"),
        ((0.34, 0.34), "sum to 0.68"),
        ((40.0, 59.0), "sum to 99"),
        ((-0.5, 1.5), "negative"),
        ((math.nan, 1.0), "finite"),
        ((math.inf, 1.0), "finite"),
        ((0.123456789, 0.876543211), "fewer digits"),
        ((1 / 1001, 1000 / 1001 - 1e-9), "fewer digits"),
    ],
)
def test_mixtures_that_cannot_be(weights: tuple[float, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        blend.parts(weights, ["a", "b"])


def written(folder: Path, name: str, documents: list[list[int]]) -> shards.Shard:
    writer = shards.Writer(folder / name, vocabulary=1000, tokenizer="t", origin="o")
    for document in documents:
        writer.add(document)
    writer.close()
    return shards.open_shard(folder / name)


@pytest.fixture
def two_shards(tmp_path: Path) -> list[shards.Shard]:
    """Documents 1 1 1 0, 2 2 0, ... whose tokens say which they are and whose last token is 0."""
    sizes = [3, 1, 7, 2, 9, 4, 1, 5]
    documents = [[number + 1] * size + [0] for number, size in enumerate(sizes)]
    return [written(tmp_path, "a", documents[:5]), written(tmp_path, "b", documents[5:])]


def test_packing_cuts_shuffled_documents_at_stride_length_less_one(two_shards: list[shards.Shard]) -> None:
    length = 6
    packed = shards.PackedWindows(two_shards, length, "source", 7)
    assert packed.tokens == 40
    assert packed.per_epoch == 39 // 5
    documents = [list(map(int, part)) for shard in two_shards for part in np.split(shard.tokens, shard.offsets[1:-1])]
    for epoch in range(2):
        torch_order = seeds.generator("documents", "source", 7, epoch)
        order = torch.randperm(len(documents), generator=torch_order).tolist()
        joined = [token for number in order for token in documents[number]]
        expected = [joined[start : start + length] for start in range(0, 5 * packed.per_epoch, 5)]
        found = packed.windows(epoch * packed.per_epoch, packed.per_epoch).tolist()
        permutation = torch.randperm(packed.per_epoch, generator=seeds.generator("windows", "source", 7, epoch))
        assert found == [expected[index] for index in permutation.tolist()]


def test_a_window_is_a_function_of_seed_and_index_alone(two_shards: list[shards.Shard]) -> None:
    streams_of = [shards.PackedWindows(two_shards, 6, "source", seed) for seed in (7, 7, 8)]
    whole = streams_of[0].windows(0, 60)
    for position in (37, 3, 59, 11):  # in any order, also back into an epoch before
        assert np.array_equal(streams_of[1].windows(position, 1)[0], whole[position])
    assert np.array_equal(streams_of[1].windows(20, 17), whole[20:37])
    assert not np.array_equal(streams_of[2].windows(0, 60), whole)


def test_unshuffled_windows_are_the_text(two_shards: list[shards.Shard]) -> None:
    packed = shards.PackedWindows(two_shards, 9, "val", shuffled=False)
    text = np.concatenate([shard.tokens for shard in two_shards])
    windows = packed.windows(0, packed.per_epoch)
    assert np.array_equal(windows[:, :-1].ravel(), text[: 8 * packed.per_epoch])
    assert np.array_equal(windows[:, 1:].ravel(), text[1 : 8 * packed.per_epoch + 1])


def test_a_source_shorter_than_a_window_is_named(two_shards: list[shards.Shard]) -> None:
    with pytest.raises(UserError, match="source/7: 40 tokens are less than one window of 41"):
        shards.PackedWindows(two_shards, 41, "source", 7)


def test_mixed_streams_take_each_source_in_its_own_order(two_shards: list[shards.Shard]) -> None:
    first, second = (shards.PackedWindows([shard], 4, number) for number, shard in enumerate(two_shards))
    mixed = shards.BlendedWindows([first, second], (2, 1)).windows(5, 30)
    sources, numbers = blend.blend((2, 1), 5, 30)
    for row, source, number in zip(mixed, sources, numbers, strict=True):
        assert np.array_equal(row, (first, second)[source].windows(int(number), 1)[0])


# Generated languages.
def test_language_has_the_entropy_that_its_samples_show() -> None:
    for language in languages.pair(vocabulary=16, number=3):
        assert language.probability.sum(axis=1) == pytest.approx(np.ones(256))
        assert language.stationary().sum() == pytest.approx(1)
        windows = languages.sample(language, seeds.generator("test entropy"), 4000, 22)
        contexts = windows[:, :-2] * 16 + windows[:, 1:-1]
        surprise = -np.log(language.probability[contexts, windows[:, 2:]])
        near = 5 * surprise.mean(axis=1).std() / math.sqrt(len(windows))
        assert surprise.mean() == pytest.approx(language.entropy_rate(), abs=near)
        shares = np.bincount(windows.ravel(), minlength=16) / windows.size
        assert shares == pytest.approx(language.unigram(), abs=0.01)


def test_entropy_is_the_protocols() -> None:
    upstream, downstream = languages.pair()
    assert upstream.entropy_rate() == pytest.approx(1.02, abs=0.08)
    assert downstream.entropy_rate() == pytest.approx(1.05, abs=0.08)
    same = (upstream.probability == downstream.probability).all(axis=1).mean()
    assert same == pytest.approx(0.96, abs=0.001)


def test_generated_windows_depend_on_names_and_index_alone() -> None:
    language = languages.pair(vocabulary=16)[0]
    whole = languages.GeneratedWindows(language, 5, "train", 0).windows(0, 2 * languages.BLOCK + 10)
    again = languages.GeneratedWindows(language, 5, "train", 0)
    for position in (languages.BLOCK + 3, 2, 2 * languages.BLOCK - 4):
        assert np.array_equal(again.windows(position, 9), whole[position : position + 9])
    other = languages.GeneratedWindows(language, 5, "train", 1).windows(0, 100)
    assert not np.array_equal(other, whole[:100])
    assert len(np.unique(languages.GeneratedWindows(language, 25, "train", 0).windows(0, 500), axis=0)) == 500


def test_replayed_windows_are_those_of_the_other_corpus(toy: Callable[..., PretrainSpec]) -> None:
    spec = toy(replay=0.25)
    mixed = streams.training(spec, Path()).windows(0, 40)
    new = streams.training(toy(), Path()).windows(0, 30)
    old = streams.training(toy(train_on="upstream"), Path()).windows(0, 10)
    sources, _ = blend.blend((3, 1), 0, 40)
    assert np.array_equal(mixed[sources == 0], new)
    assert np.array_equal(mixed[sources == 1], old)


def test_validation_is_equal_for_all_seeds_and_no_training_window(toy: Callable[..., PretrainSpec]) -> None:
    one, two = (streams.validation(toy(seed=seed), Path()) for seed in (0, 1))
    for side in streams.SIDES:
        assert np.array_equal(one[side].slices[side], two[side].slices[side])
        trained = streams.training(toy(train_on=side), Path()).windows(0, 300)
        assert not {bytes(row) for row in one[side].slices[side]} & {bytes(row) for row in trained}
