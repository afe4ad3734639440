"""Two generated languages with known entropy and partial overlap, on which the claims on re-warming show in minutes.

A language is an order-2 Markov source: each pair of tokens has a few successors, drawn from Zipf's law, with Dirichlet
probabilities, and some uniform noise. The downstream language keeps most of the pairs' successors and redraws the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from bench import seeds

BURN_IN = 64
"""Steps before the first token of a window: the chain forgets where it began."""
BLOCK = 2048
"""Windows that are drawn at once; a block is a function of its number alone."""


@dataclass(frozen=True)
class Language:
    """Successors of every context: row ``a V + b`` is what follows the tokens a, b.

    Attributes:
        probability: (V², V) float64, rows sum to 1.
        successors: (V², k) the likely tokens.
        cumulative: (V², k) their cumulated probability, without noise.
        noise: share of uniformly drawn tokens.
    """

    probability: np.ndarray
    successors: np.ndarray
    cumulative: np.ndarray
    noise: float

    @property
    def vocabulary(self) -> int:
        return self.probability.shape[1]

    def entropy_rate(self) -> float:
        """Conditional entropy given the past, nats per token: the least loss that a model can have."""
        stationary = self.stationary()
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(self.probability > 0, self.probability * np.log(self.probability), 0.0)
        return float(-(stationary[:, None] * terms).sum())

    def stationary(self) -> np.ndarray:
        """Stationary probability of the contexts, (V²,)."""
        size = self.vocabulary
        here = np.full((size, size), size**-2.0)
        transition = self.probability.reshape(size, size, size)
        for _ in range(1000):
            after = np.einsum("ab,abc->bc", here, transition)
            if np.abs(after - here).max() < 1e-15:
                break
            here = after
        return here.ravel()

    def unigram(self) -> np.ndarray:
        """Stationary probability of the tokens, (V,)."""
        return self.stationary().reshape(self.vocabulary, -1).sum(axis=0)


def _draw(
    name: str, vocabulary: int, branches: int, concentration: float, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Successors by Zipf's law and their probabilities, both (V², branches); a successor drawn twice adds up."""
    random = np.random.Generator(np.random.PCG64(seeds.seed("language", name, number)))
    contexts = vocabulary**2
    weight = 1.0 / np.arange(1, vocabulary + 1)
    successors = random.choice(vocabulary, size=(contexts, branches), p=weight / weight.sum())
    share = random.gamma(concentration, size=(contexts, branches))
    return successors, share / share.sum(axis=1, keepdims=True)


@lru_cache(maxsize=8)
def pair(
    *,
    vocabulary: int = 64,
    branches: int = 4,
    concentration: float = 0.5,
    noise: float = 0.03,
    kept: float = 0.96,
    number: int = 0,
) -> tuple[Language, Language]:
    """The upstream and the downstream language.

    Args:
        vocabulary: V.
        branches: successors of a context.
        concentration: of the Dirichlet distribution of their probabilities.
        noise: share of uniform tokens.
        kept: share of contexts whose successors are the same downstream.
        number: which pair; another number is an independent draw.
    """
    successors, share = _draw("upstream", vocabulary, branches, concentration, number)
    other_successors, other_share = _draw("downstream", vocabulary, branches, concentration, number)
    random = np.random.Generator(np.random.PCG64(seeds.seed("language", "kept", number)))
    order = random.permutation(vocabulary**2)
    redrawn = np.zeros(vocabulary**2, dtype=bool)
    redrawn[order[: round((1 - kept) * vocabulary**2)]] = True
    shifted = np.where(redrawn[:, None], other_successors, successors)
    shifted_share = np.where(redrawn[:, None], other_share, share)
    return _language(successors, share, vocabulary, noise), _language(shifted, shifted_share, vocabulary, noise)


def _language(successors: np.ndarray, share: np.ndarray, vocabulary: int, noise: float) -> Language:
    probability = np.full((vocabulary**2, vocabulary), noise / vocabulary)
    np.add.at(probability, (np.arange(vocabulary**2)[:, None], successors), (1 - noise) * share)
    cumulative = np.cumsum(share, axis=1)
    cumulative[:, -1] = 1.0
    return Language(probability, successors, cumulative, noise)


def sample(language: Language, generator: torch.Generator, windows: int, length: int) -> np.ndarray:
    """Independent stretches of the stationary source, (windows, length) int64."""
    size = language.vocabulary
    steps = BURN_IN + length
    uniform = torch.rand(steps, windows, generator=generator, dtype=torch.float64).numpy()
    noisy = torch.rand(steps, windows, generator=generator, dtype=torch.float64).numpy() < language.noise
    anything = torch.randint(size, (steps, windows), generator=generator).numpy()
    context = torch.randint(size**2, (windows,), generator=generator).numpy()
    out = np.empty((length, windows), dtype=np.int64)
    for step in range(steps):
        branch = (uniform[step][:, None] > language.cumulative[context]).sum(axis=1)
        token = np.where(noisy[step], anything[step], language.successors[context, branch])
        context = context % size * size + token
        if step >= BURN_IN:
            out[step - BURN_IN] = token
    return out.T


class GeneratedWindows:
    """An endless training stream: window i is a function of the names and i, and no window repeats another.

    Args:
        language: what is spoken.
        length: tokens in a window, one more than the context.
        names: of the seed, e.g. ``("train", "upstream", seed)``.
    """

    def __init__(self, language: Language, length: int, *names: object):
        self.language, self.length, self.names = language, length, names
        self._blocks: dict[int, np.ndarray] = {}

    def windows(self, position: int, count: int) -> np.ndarray:
        """Windows ``position .. position + count - 1``, (count, length) int64."""
        parts = []
        while count > 0:
            number, offset = divmod(position, BLOCK)
            part = self._block(number)[offset : offset + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _block(self, number: int) -> np.ndarray:
        if number not in self._blocks:
            generator = seeds.generator("language windows", *self.names, number)
            if len(self._blocks) > 1:
                self._blocks.pop(min(self._blocks))
            self._blocks[number] = sample(self.language, generator, BLOCK, self.length)
        return self._blocks[number]
