"""Sequences made by a rule, whose difficulty is how long a net must remember: data of any size, for free.

Every function takes how many sequences, how many steps and a source of random numbers, and returns
`Sequences`: inputs time first, targets, and what somebody scores who has not looked at the inputs at all.
The same rng gives the same sequences.  A target of IGNORED (-1) means that nothing is asked at that step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coursekit.arrays import per_axis

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import DTypeLike

__all__ = [
    "IGNORED",
    "Chance",
    "Sequences",
    "adding",
    "copy_recall",
    "count_the_gap",
    "delayed_recall",
    "parity",
    "temporal_order",
]

IGNORED = -1
Rng = np.random.Generator | int


class Chance(NamedTuple):
    """What is scored without a look at the inputs; a net that is no better has learnt nothing.

    constant: loss of the best constant answer.  For numbers the mean squared error of their mean, for
    classes the cross-entropy of their odds, in nats; the odds are equal in all tasks but count_the_gap.
    guess: error of a random guess, drawn as the targets are.  For numbers its mean squared error, twice that
    of the best constant; for classes the share of wrong answers.
    """

    constant: float
    guess: float


class Sequences(NamedTuple):
    """A batch of sequences with what is to be said about them.

    x: inputs, time first.   target: a number per sequence (N, 1) or per step (T, N, 1), a class per sequence
    (N,) or per step (T, N).
    chance: what is scored without a look at x.
    """

    x: Float[np.ndarray, "T N D"]
    target: Float[np.ndarray, "... 1"] | Int[np.ndarray, ...]
    chance: Chance


def adding(count: int, length: int, *, rng: Rng, dtype: DTypeLike = "float32") -> Sequences:
    """The adding problem: the sum of the two numbers that are marked.

    Feature 0 is a number, uniform in [0, 1); feature 1 is 1 at one step of the first half and at one of the
    second, 0 elsewhere.  The target (N, 1) has mean 1 and variance 1/6, the loss of the best constant.
    length: steps, at least 2.
    Source: hochreiter1997long, section 5.4, in the form of le2015simple.

    >>> x, target, chance = adding(1, 4, rng=0)
    >>> bool(target[0, 0] == (x[:, 0, 0] * x[:, 0, 1]).sum()), round(chance.constant, 3)
    (True, 0.167)
    """
    rng = _source("adding", rng)
    count, length = _sizes("adding", count=(count, 0), length=(length, 2))
    half = length // 2
    x = np.zeros((length, count, 2), _floating("adding", dtype))
    x[..., 0] = rng.random((length, count), dtype="float32")
    marks = rng.integers(0, half, count), rng.integers(half, length, count)
    for steps in marks:
        x[steps, np.arange(count), 1] = 1
    target = sum(x[steps, np.arange(count), 0] for steps in marks)
    return Sequences(x, target[:, None], Chance(constant=1 / 6, guess=1 / 3))


def temporal_order(count: int, length: int, *, rng: Rng, dtype: DTypeLike = "float32") -> Sequences:
    """Temporal order: which of A and B came first, and which of them came second, among distractors.

    Each step shows one of six symbols, one-hot: features 0 to 3 are distractors, 4 is A, 5 is B.  One of A
    and B stands at a step from length // 10 to 2 length // 10, one from 4 length // 10 to 5 length // 10.
    The target (N,) is 0 for A A, 1 for A B, 2 for B A, 3 for B B.
    length: steps, at least 3.
    Source: hochreiter1997long, section 5.6 (task 6a), with the positions of pascanu2013difficulty.

    >>> x, target, chance = temporal_order(1, 10, rng=1)
    >>> symbols = x[:, 0].argmax(axis=1)
    >>> symbols[symbols > 3] - 4, target
    (array([1, 0]), array([2]))
    """
    rng = _source("temporal_order", rng)
    count, length = _sizes("temporal_order", count=(count, 0), length=(length, 3))
    symbols = rng.integers(0, 4, (length, count))
    first, second = rng.integers(0, 2, (2, count))
    early = rng.integers(length // 10, 2 * length // 10 + 1, count)
    late = rng.integers(4 * length // 10, 5 * length // 10 + 1, count)
    symbols[early, np.arange(count)] = 4 + first
    symbols[late, np.arange(count)] = 4 + second
    return Sequences(_one_hot("temporal_order", symbols, 6, dtype), 2 * first + second, _of_classes(4))


def parity(
    count: int, length: int, *, rng: Rng, running: bool = False, dtype: DTypeLike = "float32"
) -> Sequences:
    """Parity: is the number of ones odd?  One bit per step, 0 or 1 with equal odds.

    The target (N,) is 1 if it is odd; every bit matters, and no part of the bits says anything about it.
    running: ask after every step instead, targets (T, N).
    length: bits, at least 1.
    Source: bengio1994learning.

    >>> x, target, chance = parity(1, 5, rng=1, running=True)
    >>> x[:, 0, 0], target[:, 0]
    (array([0., 1., 1., 1., 0.], dtype=float32), array([0, 1, 0, 1, 1]))
    """
    rng = _source("parity", rng)
    count, length = _sizes("parity", count=(count, 0), length=(length, 1))
    bits = rng.integers(0, 2, (length, count))
    odd = np.cumsum(bits, axis=0) % 2
    x = bits[..., None].astype(_floating("parity", dtype))
    return Sequences(x, odd if running else odd[-1], _of_classes(2))


def copy_recall(
    count: int, length: int, delay: int, *, symbols: int = 8, rng: Rng, dtype: DTypeLike = "float32"
) -> Sequences:
    """Copy: hear a word, wait, and say it from memory when asked.

    Each step is one-hot: features 0 to symbols - 1 are the symbols, then a blank, then the cue.  The word
    takes `length` steps, then `delay` steps are blank, the last of them the cue instead, then come `length`
    blank steps at which the word is to be said.  So T = 2 length + delay, and each symbol is wanted
    length + delay steps after it was shown.  The target (T, N) is IGNORED before that.
    length, delay: steps, at least 1.   symbols: at least 2.
    Source: arjovsky2016unitary, after hochreiter1997long.

    >>> x, target, chance = copy_recall(1, 2, 3, symbols=4, rng=0)
    >>> x[:, 0].argmax(axis=1), target[:, 0]
    (array([3, 2, 4, 4, 5, 4, 4]), array([-1, -1, -1, -1, -1,  3,  2]))
    """
    rng = _source("copy_recall", rng)
    count, length, delay, symbols = _sizes(
        "copy_recall", count=(count, 0), length=(length, 1), delay=(delay, 1), symbols=(symbols, 2)
    )
    word = rng.integers(0, symbols, (length, count))
    shown = np.full((2 * length + delay, count), symbols)
    shown[:length] = word
    shown[length + delay - 1] = symbols + 1
    target = np.full(shown.shape, IGNORED)
    target[length + delay :] = word
    return Sequences(_one_hot("copy_recall", shown, symbols + 2, dtype), target, _of_classes(symbols))


def delayed_recall(
    count: int, length: int, lag: int, *, symbols: int = 4, rng: Rng, dtype: DTypeLike = "float32"
) -> Sequences:
    """Delayed recall: at every step, name the symbol that was shown `lag` steps before.

    Each step shows one of the symbols, one-hot.  The target (T, N) is IGNORED at the first `lag` steps.
    length: steps.   lag: steps, from 0 to length - 1.   symbols: at least 2.

    >>> x, target, chance = delayed_recall(1, 5, 2, rng=0)
    >>> x[:, 0].argmax(axis=1), target[:, 0]
    (array([3, 2, 2, 1, 1]), array([-1, -1,  3,  2,  2]))
    """
    rng = _source("delayed_recall", rng)
    count, length, lag, symbols = _sizes(
        "delayed_recall", count=(count, 0), length=(length, 1), lag=(lag, 0), symbols=(symbols, 2)
    )
    if lag >= length:
        raise ValueError(
            f"delayed_recall: lag {lag} leaves nothing to ask in {length} steps; "
            f"take a lag up to {length - 1} or a longer sequence"
        )
    shown = rng.integers(0, symbols, (length, count))
    target = np.full(shown.shape, IGNORED)
    target[lag:] = shown[: length - lag]
    return Sequences(_one_hot("delayed_recall", shown, symbols, dtype), target, _of_classes(symbols))


def count_the_gap(
    count: int, length: int, gap: int, *, ask: str = "moment", rng: Rng, dtype: DTypeLike = "float32"
) -> Sequences:
    """Count the gap: spikes come at varying intervals, and the steps since the last one must be counted.

    The one feature is 1 at a spike and 0 elsewhere.  The first spike is at step 0, and from each to the next
    it is 1 to 2 gap steps, with equal odds.
    ask: "moment" wants a class at every step, target (T, N): 1 if the last spike was exactly `gap` steps ago,
    0 elsewhere.  "interval" wants a number at every step, target (T, N, 1): at a spike the steps since the
    one before it, divided by 2 gap; 0 elsewhere and at the first.
    length: steps, more than gap.   gap: steps, at least 1.
    Source: gers2002learning, whose tasks ask for one or the other.

    >>> x, target, chance = count_the_gap(1, 12, 3, rng=3)
    >>> x[:, 0, 0].astype(int), target[:, 0]
    (array([1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0]), array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]))
    >>> count_the_gap(1, 12, 3, ask="interval", rng=3).target[:, 0, 0].round(2)[[5, 6, 8]]
    array([0.83, 0.17, 0.33], dtype=float32)
    """
    rng = _source("count_the_gap", rng)
    count, length, gap = _sizes("count_the_gap", count=(count, 0), length=(length, 1), gap=(gap, 1))
    if ask not in {"moment", "interval"}:
        raise ValueError(f"count_the_gap: ask {ask!r} is unknown, expected 'moment' or 'interval'")
    if gap >= length:
        raise ValueError(
            f"count_the_gap: no gap of {gap} ends within {length} steps; "
            f"take a gap up to {length - 1} or a longer sequence"
        )
    spikes = np.cumsum(rng.integers(1, 2 * gap + 1, (length, count)), axis=0)
    x = np.zeros((length, count, 1), _floating("count_the_gap", dtype))
    x[0] = 1
    number, sequence = np.nonzero(spikes < length)
    x[spikes[number, sequence], sequence] = 1
    steps = np.arange(length)[:, None]
    last = np.maximum.accumulate(np.where(x[..., 0] == 1, steps, 0), axis=0)
    if ask == "moment":
        return Sequences(x, (steps - last == gap).astype(int), _of_moments(length, gap))
    before = np.concatenate([last[:1], last[:-1]])
    interval = np.where(last == steps, steps - before, 0) / (2 * gap)
    return Sequences(x, interval[..., None].astype(x.dtype), _of_intervals(length, gap))


def _spike_odds(length: int, gap: int) -> Float[np.ndarray, " T"]:
    """The probability of a spike at each step of count_the_gap."""
    odds = np.ones(length)
    for t in range(1, length):
        odds[t] = odds[max(0, t - 2 * gap) : t].sum() / (2 * gap)
    return odds


def _of_moments(length: int, gap: int) -> Chance:
    """Chance where a moment is one of the steps that come gap after a spike and before the next."""
    share = float(_spike_odds(length, gap)[: length - gap].sum()) / 2 / length
    constant = -share * math.log(share) - (1 - share) * math.log(1 - share)
    return Chance(constant=constant, guess=2 * share * (1 - share))


def _of_intervals(length: int, gap: int) -> Chance:
    """Chance where an interval of d steps ends at a step if d before it there was a spike."""
    odds, intervals = _spike_odds(length, gap), np.arange(1, min(2 * gap, length - 1) + 1)
    ends = np.array([odds[: length - d].sum() for d in intervals]) / (2 * gap * length)
    mean, square = (float((ends * (intervals / (2 * gap)) ** power).sum()) for power in (1, 2))
    return Chance(constant=square - mean**2, guess=2 * (square - mean**2))


def _of_classes(classes: int) -> Chance:
    """Chance among classes with equal odds."""
    return Chance(constant=math.log(classes), guess=1 - 1 / classes)


def _one_hot(
    function: str, symbols: Int[np.ndarray, "T N"], features: int, dtype: DTypeLike
) -> Float[np.ndarray, "T N D"]:
    return (symbols[..., None] == np.arange(features)).astype(_floating(function, dtype))


def _source(function: str, rng: Any) -> np.random.Generator:
    """The generator itself, or a new one from a seed; without either, no run could be repeated."""
    seed = isinstance(rng, (int, np.integer)) and not isinstance(rng, bool)
    if not seed and not isinstance(rng, np.random.Generator):
        raise TypeError(f"{function}: rng must be a numpy.random.Generator or a seed, got {rng!r}")
    return np.random.default_rng(rng)


def _sizes(function: str, **sizes: tuple[int, int]) -> tuple[int, ...]:
    """Each size checked to be an integer of at least its minimum."""
    return tuple(per_axis(value, 1, f"{function}: {name}", low)[0] for name, (value, low) in sizes.items())


def _floating(function: str, dtype: DTypeLike) -> np.dtype:
    kind = np.dtype(dtype)
    if not np.issubdtype(kind, np.floating):
        raise TypeError(f"{function}: dtype must be a floating one, e.g. float32, got {kind}")
    return kind
