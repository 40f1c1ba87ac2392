"""Checks of the assignment `clipping`: by value, by norm, and a training loop that survives steep places.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from coursekit.checks.engine import Arguments, Case, Check, Draw, Misconception, call

if TYPE_CHECKING:
    from jaxtyping import Float

    from coursekit.arrays import Array

Gradients = Mapping[str, np.ndarray]

VALUE = "gradients/clipping#eq-clip-value"
NORM = "gradients/clipping#eq-clip-norm"
DIRECTION = "gradients/clipping#sec-clip-direction"
JOINTLY = "gradients/clipping#sec-clip-jointly"
ORDER = "gradients/clipping#sec-clip-order"
BROKEN = "gradients/clipping#sec-clip-broken"
RATE = "gradients/clipping#sec-clip-rate"


def _drawn(draw: Draw, shapes: Mapping[str, tuple[int, ...]], scale: float = 1.0) -> dict[str, np.ndarray]:
    return {name: (scale * draw(*shape)).astype(draw.dtype) for name, shape in shapes.items()}


SMALL_NET = {"u": (2, 3), "w": (3, 3), "b": (3,), "v": (3, 5)}


# --- Part 1: by value --------------------------------------------------------------------------------------


def _cut(g: Array, limit: float) -> Array:
    return np.clip(g, -limit, limit)


def _share_cut(gradients: Gradients, limit: float) -> float:
    cut = sum(int((np.abs(g) > limit).sum()) for g in gradients.values())
    return cut / sum(g.size for g in gradients.values())


def _clip_by_value(
    gradients: Gradients, limit: float, *, cut: Callable = _cut, share: Callable = _share_cut
) -> tuple[dict[str, np.ndarray], float]:
    return {name: cut(g, limit) for name, g in gradients.items()}, share(gradients, limit)


def _all_at_once(change: Callable[[np.ndarray, float], float]) -> Callable:
    """A wrong clip_by_value that scales all gradients by one factor, change(all numbers, limit)."""

    def wrong(gradients: Gradients, limit: float) -> tuple[dict[str, np.ndarray], float]:
        factor = change(np.concatenate([g.ravel() for g in gradients.values()]), limit)
        return _clip_by_value(gradients, limit, cut=lambda g, _: (g * factor).astype(g.dtype))

    return wrong


def _cut_in_place(gradients: Gradients, limit: float) -> tuple[Gradients, float]:
    share = _share_cut(gradients, limit)
    for g in gradients.values():
        np.clip(g, -limit, limit, out=g)
    return gradients, share


def _value_case(shapes: Mapping[str, tuple[int, ...]], limit: float, *, whole: bool = False) -> Callable:
    """whole: numbers without a fraction, many of them exactly at the limit."""

    def arguments(draw: Draw) -> Arguments:
        gradients = _drawn(draw, shapes, 1.5)
        return call({name: np.round(g) for name, g in gradients.items()} if whole else gradients, limit)

    return arguments


clip_by_value = Check(
    name="clipping.clip_by_value",
    title="clip the gradients number by number",
    reference=_clip_by_value,
    terms=("clipped", "share"),
    cases=(
        Case("one array", 0.5, _value_case({"w": (7, 5)}, 0.7)),
        Case("several arrays", 0.5, _value_case(SMALL_NET, 0.6)),
        Case("numbers at the limit", 0.5, _value_case({"u": (5, 7), "b": (11,)}, 1.0, whole=True)),
        Case("nothing to cut, float32", 0.5, _value_case({"w": (3, 2), "b": (2,)}, 50.0), "float32"),
    ),
    misconceptions=(
        Misconception(
            "upper-side-only",
            "Only large positive numbers are cut. The limit holds on both sides, from -limit to limit.",
            VALUE,
            partial(_clip_by_value, cut=lambda g, limit: np.minimum(g, limit)),
        ),
        Misconception(
            "sign-lost",
            "The sign is lost: an entry of -3 becomes -limit, not limit.",
            VALUE,
            partial(_clip_by_value, cut=lambda g, limit: np.minimum(np.abs(g), limit)),
        ),
        Misconception(
            "set-to-zero",
            "What exceeds the limit is set to zero, so that the steepest directions are not followed at all.",
            VALUE,
            partial(_clip_by_value, cut=lambda g, limit: np.where(np.abs(g) > limit, 0, g)),
        ),
        Misconception(
            "scaled-up",
            "Every number becomes limit or -limit, the small ones too. Clipping only ever makes a number "
            "smaller.",
            VALUE,
            partial(_clip_by_value, cut=lambda g, limit: (limit * np.sign(g)).astype(g.dtype)),
        ),
        Misconception(
            "limit-times",
            "The gradients are multiplied by the limit. It is a bound, not a factor.",
            VALUE,
            partial(_clip_by_value, cut=lambda g, limit: g * limit),
        ),
        Misconception(
            "divided-by-the-largest",
            "All gradients are divided by one number until the largest fits. By value, each number is cut "
            "on its own.",
            DIRECTION,
            _all_at_once(lambda flat, limit: min(1.0, limit / np.abs(flat).max())),
        ),
        Misconception(
            "norm-for-value",
            "The gradients are scaled by their norm: that is the other kind, the next task. Here each "
            "number is cut on its own.",
            DIRECTION,
            _all_at_once(lambda flat, limit: min(1.0, limit / np.linalg.norm(flat))),
        ),
        Misconception(
            "in-place",
            "The gradients that came in were overwritten. Make new arrays: np.clip without out=.",
            VALUE,
            _cut_in_place,
        ),
        Misconception(
            "limit-counts-as-cut",
            "Numbers exactly at the limit are counted as cut; they stay as they are.",
            RATE,
            partial(
                _clip_by_value,
                share=lambda gradients, limit: _share_cut(gradients, np.nextafter(limit, 0)),
            ),
        ),
        Misconception(
            "kept-for-cut",
            "This is the share that was left alone. The share that was cut is asked for.",
            RATE,
            partial(_clip_by_value, share=lambda gradients, limit: 1 - _share_cut(gradients, limit)),
        ),
        Misconception(
            "mean-of-shares",
            "The share is taken for each array and averaged. Count the numbers of all arrays together.",
            RATE,
            partial(
                _clip_by_value,
                share=lambda gradients, limit: float(
                    np.mean([_share_cut({name: g}, limit) for name, g in gradients.items()])
                ),
            ),
        ),
        Misconception(
            "arrays-counted",
            "This is the share of arrays in which something was cut. Count the numbers.",
            RATE,
            partial(
                _clip_by_value,
                share=lambda gradients, limit: float(
                    np.mean([(np.abs(g) > limit).any() for g in gradients.values()])
                ),
            ),
        ),
        Misconception(
            "count-for-share",
            "This is how many numbers were cut. Divide by how many there are in all arrays.",
            RATE,
            partial(
                _clip_by_value,
                share=lambda gradients, limit: sum(
                    int((np.abs(g) > limit).sum()) for g in gradients.values()
                ),
            ),
        ),
    ),
)


# --- Part 2: by norm ---------------------------------------------------------------------------------------


def _joint_norm(gradients: Gradients) -> float:
    return math.sqrt(sum(float((g.astype("float64") ** 2).sum()) for g in gradients.values()))


def _at_most_one(norm: float, limit: float) -> float:
    return 1.0 if norm <= limit else limit / norm


def _scaled(gradients: Gradients, factor: float) -> dict[str, np.ndarray]:
    return {name: (g * factor).astype(g.dtype) for name, g in gradients.items()}


def _clip_by_norm(
    gradients: Gradients,
    limit: float,
    *,
    norm: Callable[[Gradients], float] = _joint_norm,
    factor: Callable[[float, float], float] = _at_most_one,
    seen: Callable | None = None,
) -> tuple[dict[str, np.ndarray], float]:
    """norm: what the factor is made of, and what is returned unless seen gives another number."""
    length = norm(gradients)
    clipped = _scaled(gradients, factor(np.float64(length), limit))
    return clipped, length if seen is None else seen(gradients, clipped)


def _of_all(measure: Callable[[np.ndarray], float]) -> Callable[[Gradients], float]:
    return lambda gradients: float(measure(np.concatenate([g.ravel() for g in gradients.values()])))


def _each_on_its_own(gradients: Gradients, limit: float) -> tuple[dict[str, np.ndarray], float]:
    alone = [_clip_by_norm({name: g}, limit)[0] for name, g in gradients.items()]
    return {name: g for one in alone for name, g in one.items()}, _joint_norm(gradients)


def _scaled_in_place(gradients: Gradients, limit: float) -> tuple[Gradients, float]:
    norm = _joint_norm(gradients)
    for g in gradients.values():
        g *= _at_most_one(norm, limit)
    return gradients, norm


def _array_norm(g: np.ndarray) -> float:
    return float(np.linalg.norm(g.astype("float64")))


def _spectral(gradients: Gradients) -> float:
    """What np.linalg.norm(g, 2) measures: of a matrix, its largest singular value."""
    return math.sqrt(sum(float(np.linalg.norm(g.astype("float64"), 2)) ** 2 for g in gradients.values()))


def _norm_case(shapes: Mapping[str, tuple[int, ...]], limit: float, scale: float = 1.0) -> Callable:
    return lambda draw: call(_drawn(draw, shapes, scale), limit)


clip_by_norm = Check(
    name="clipping.clip_by_norm",
    title="clip all gradients together by their norm",
    reference=_clip_by_norm,
    terms=("clipped", "norm"),
    cases=(
        Case("far too long", 0.5, _norm_case(SMALL_NET, 0.7, 3)),
        Case("too long only together", 0.5, _norm_case({"w": (3, 5), "b": (5,), "v": (5, 2)}, 5.0)),
        Case("short enough", 0.5, _norm_case(SMALL_NET, 9.0, 0.5)),
        Case("all zero", 0.5, _norm_case({"w": (3, 2), "b": (2,)}, 0.5, 0)),
        Case("float32", 0.5, _norm_case({"u": (1, 7), "w": (7, 7), "b": (7,)}, 1.5, 2), "float32"),
    ),
    misconceptions=(
        Misconception(
            "each-on-its-own",
            "Each array is clipped by its own norm, which changes the direction of the whole. One norm, one "
            "factor for all.",
            JOINTLY,
            _each_on_its_own,
        ),
        Misconception(
            "scaled-up",
            "Short gradients are stretched to the limit. If the norm is within it, they stay as they are.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: limit / norm),
        ),
        Misconception(
            "scaled-up-from-zero",
            "Short gradients are stretched to the limit, and zero ones cannot be. If the norm is within the "
            "limit, leave them.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: limit / float(norm)),
        ),
        Misconception(
            "unit-vector",
            "The gradients are divided by their norm alone, so that they end at length 1, not at the limit.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: 1.0 if norm <= limit else 1 / norm),
        ),
        Misconception(
            "limit-times",
            "The gradients are multiplied by the limit and not divided by the norm: limit / norm is the "
            "factor.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: 1.0 if norm <= limit else limit),
        ),
        Misconception(
            "divided-by-limit",
            "The factor is 1 / limit. It must be limit / norm, so that the new norm is the limit.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: 1.0 if norm <= limit else 1 / limit),
        ),
        Misconception(
            "upside-down",
            "The factor is norm / limit, which makes long gradients longer. Turn it over.",
            NORM,
            partial(_clip_by_norm, factor=lambda norm, limit: 1.0 if norm <= limit else norm / limit),
        ),
        Misconception(
            "not-rooted",
            "This is the sum of squares. The norm is its root.",
            NORM,
            partial(_clip_by_norm, norm=lambda gradients: _joint_norm(gradients) ** 2),
        ),
        Misconception(
            "mean-for-sum",
            "The squares are averaged. The norm is the root of their sum, so that it grows with the number "
            "of weights.",
            NORM,
            partial(_clip_by_norm, norm=_of_all(lambda flat: np.sqrt(np.mean(flat.astype("float64") ** 2)))),
        ),
        Misconception(
            "norms-added",
            "The norms of the arrays are added. Add their squares, then take the root.",
            JOINTLY,
            partial(_clip_by_norm, norm=lambda gradients: sum(map(_array_norm, gradients.values()))),
        ),
        Misconception(
            "largest-of-the-norms",
            "This is the norm of the longest array. All arrays together are one vector.",
            JOINTLY,
            partial(_clip_by_norm, norm=lambda gradients: max(map(_array_norm, gradients.values()))),
        ),
        Misconception(
            "first-array-only",
            "This is the norm of the first array alone. All arrays together are one vector.",
            JOINTLY,
            partial(_clip_by_norm, norm=lambda gradients: _array_norm(next(iter(gradients.values())))),
        ),
        Misconception(
            "last-array-only",
            "This is the norm of the last array alone: does the sum start anew for each array?",
            JOINTLY,
            partial(_clip_by_norm, norm=lambda gradients: _array_norm(list(gradients.values())[-1])),
        ),
        Misconception(
            "largest-number",
            "This is the largest number, the max-norm. The task asks for the root of the sum of squares.",
            NORM,
            partial(_clip_by_norm, norm=_of_all(lambda flat: np.abs(flat).max())),
        ),
        Misconception(
            "absolute-values",
            "Absolute values are added up. The norm is the root of the sum of squares.",
            NORM,
            partial(_clip_by_norm, norm=_of_all(lambda flat: np.abs(flat.astype("float64")).sum())),
        ),
        Misconception(
            "spectral-norm",
            "np.linalg.norm(g, 2) of a matrix is its largest singular value. Leave out the 2, or flatten "
            "the matrix.",
            NORM,
            partial(_clip_by_norm, norm=_spectral),
        ),
        Misconception(
            "value-for-norm",
            "Each number is cut on its own: that is clipping by value. Here all are scaled by one factor.",
            DIRECTION,
            lambda gradients, limit: (_clip_by_value(gradients, limit)[0], _joint_norm(gradients)),
        ),
        Misconception(
            "zero-divided",
            "Zero gradients become nan: 0 / 0. Divide only where the norm is above the limit.",
            NORM,
            partial(
                _clip_by_norm,
                factor=lambda norm, limit: limit * min(norm / limit, 1) / norm,
            ),
        ),
        Misconception(
            "clipped-norm-returned",
            "The norm is measured after clipping, and so never exceeds the limit. Return the one that you "
            "saw before.",
            RATE,
            partial(_clip_by_norm, seen=lambda gradients, clipped: _joint_norm(clipped)),
        ),
        Misconception(
            "factor-returned",
            "The factor is returned in place of the norm.",
            RATE,
            lambda gradients, limit: (
                _clip_by_norm(gradients, limit)[0],
                _at_most_one(_joint_norm(gradients), limit),
            ),
        ),
        Misconception(
            "in-place",
            "The gradients that came in were overwritten. Make new arrays: g * factor, not g *= factor.",
            NORM,
            _scaled_in_place,
        ),
    ),
)


# --- Part 3: the loop --------------------------------------------------------------------------------------


def gradient_of(parameters: Gradients, batch: Float[np.ndarray, "N D"]) -> dict[str, np.ndarray]:
    """The gradients of half the mean squared distance of batch @ w + b from 1."""
    distance = batch @ parameters["w"] + parameters["b"] - 1
    return {"w": batch.T @ distance / len(batch), "b": distance.mean(axis=0)}


class _Loop:
    """The right loop, one method for each decision in it; a wrong variant overrides one."""

    def __init__(
        self, parameters: Gradients, gradient_of: Callable, lr: float, momentum: float, limit: float
    ) -> None:
        self.parameters, self.gradient_of = dict(parameters), gradient_of
        self.lr, self.momentum, self.limit = lr, momentum, limit
        self.velocity = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.norms: list[float] = []
        self.clipped = 0

    def run(self, batches: Sequence[np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
        for batch in batches:
            gradients = self.gradients(batch)
            norm = _joint_norm(gradients)
            if not math.isfinite(norm):
                if self.broken(norm):
                    break
                continue
            self.norms.append(self.logged(norm))
            self.clipped += self.counted(norm)
            self.step(self.clip(gradients, norm))
        return self.parameters, np.array(self.norms), self.rate(len(batches))

    def gradients(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return self.gradient_of(self.parameters, batch)

    def broken(self, norm: float) -> bool:
        """What happens at a norm that is no number; True ends the loop."""
        self.norms.append(norm)
        return False

    def logged(self, norm: float) -> float:
        return norm

    def counted(self, norm: float) -> bool:
        return norm > self.limit

    def clip(self, gradients: Gradients, norm: float) -> dict[str, np.ndarray]:
        return _scaled(gradients, _at_most_one(norm, self.limit))

    def enter(self, name: str, gradient: np.ndarray) -> np.ndarray:
        """The new velocity of a parameter."""
        return self.momentum * self.velocity[name] + gradient

    def step(self, gradients: Gradients) -> None:
        self.velocity = {name: self.enter(name, g) for name, g in gradients.items()}
        self.move(_scaled(self.velocity, self.lr))

    def move(self, step: Gradients) -> None:
        self.parameters = {name: p - step[name] for name, p in self.parameters.items()}

    def rate(self, batches: int) -> float:
        return self.clipped / batches


def _train(
    parameters: Gradients,
    gradient_of: Callable,
    batches: Sequence[np.ndarray],
    lr: float,
    momentum: float,
    limit: float,
    *,
    loop: type[_Loop] = _Loop,
) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    return loop(parameters, gradient_of, lr, momentum, limit).run(batches)


def _with(**methods: Callable) -> Callable:
    """The loop with some of its methods replaced."""
    return partial(_train, loop=type("Wrong", (_Loop,), methods))


def _shorten(gradients: Gradients, limit: float) -> dict[str, np.ndarray]:
    return _scaled(gradients, _at_most_one(_joint_norm(gradients), limit))


def _unclipped(self: _Loop, gradients: Gradients, norm: float) -> Gradients:
    return gradients


def _step_with_clipped_velocity(self: _Loop, gradients: Gradients) -> None:
    self.velocity = _shorten({name: self.enter(name, g) for name, g in gradients.items()}, self.limit)
    self.move(_scaled(self.velocity, self.lr))


def _step_along_clipped_velocity(self: _Loop, gradients: Gradients) -> None:
    self.velocity = {name: self.enter(name, g) for name, g in gradients.items()}
    self.move(_scaled(_shorten(self.velocity, self.limit), self.lr))


def _move_clipped(self: _Loop, step: Gradients) -> None:
    _Loop.move(self, _shorten(step, self.limit))


def _clip_parameters(self: _Loop, step: Gradients) -> None:
    _Loop.move(self, step)
    self.parameters = _shorten(self.parameters, self.limit)


def _clip_each(self: _Loop, gradients: Gradients, norm: float) -> dict[str, np.ndarray]:
    return _each_on_its_own(gradients, self.limit)[0]


def _stale_gradients(self: _Loop, batch: np.ndarray) -> dict[str, np.ndarray]:
    self.first = getattr(self, "first", self.parameters)
    return self.gradient_of(self.first, batch)


def _summed_gradients(self: _Loop, batch: np.ndarray) -> dict[str, np.ndarray]:
    new = self.gradient_of(self.parameters, batch)
    before = getattr(self, "sum", None)
    self.sum = new if before is None else {name: before[name] + g for name, g in new.items()}
    return self.sum


def _step_all_the_same(self: _Loop, norm: float) -> bool:
    """The factor limit / inf is 0 and 0 times inf is no number; nor is anything times nan."""
    self.norms.append(norm)
    nothing = {name: np.full_like(p, np.nan) for name, p in self.parameters.items()}
    self.clipped += norm > self.limit
    self.step(nothing)
    return False


def _roll_on(self: _Loop, norm: float) -> bool:
    self.norms.append(norm)
    self.step({name: np.zeros_like(p) for name, p in self.parameters.items()})
    return False


def _forget_velocity(self: _Loop, norm: float) -> bool:
    self.norms.append(norm)
    self.velocity = {name: np.zeros_like(p) for name, p in self.parameters.items()}
    return False


def _end(self: _Loop, norm: float) -> bool:
    self.norms.append(norm)
    return True


def _count_broken(self: _Loop, norm: float) -> bool:
    self.norms.append(norm)
    self.clipped += norm > self.limit
    return False


def _skip_steep(self: _Loop, gradients: Gradients) -> None:
    if not self.counted(self.norms[-1]):
        _Loop.step(self, gradients)


def _moved_in_place(
    parameters: Gradients, gradient_of: Callable, batches: Sequence, lr: float, momentum: float, limit: float
) -> tuple[Gradients, np.ndarray, float]:
    moved, norms, rate = _train(parameters, gradient_of, batches, lr, momentum, limit)
    for name, p in parameters.items():
        p[...] = moved[name]
    return parameters, norms, rate


def _entered_in_place(
    parameters: Gradients, gradient_of: Callable, batches: Sequence, lr: float, momentum: float, limit: float
) -> tuple[Gradients, np.ndarray, float]:
    moved, norms, rate = _train(parameters, gradient_of, batches, lr, momentum, limit)
    parameters.update(moved)
    return parameters, norms, rate


def _train_case(
    scales: Sequence[float], limit: float, *, lr: float = 0.1, momentum: float = 0.5, broken: Mapping = {}
) -> Callable:
    """One batch for each scale.   broken: number of a batch -> a value that stands in it."""

    def arguments(draw: Draw) -> Arguments:
        parameters = {"w": draw(3, 5), "b": draw(5)}
        batches = [scale * draw(7, 3) for scale in scales]
        for number, value in broken.items():
            batches[number][1, 2] = value
        return call(parameters, gradient_of, batches, lr, momentum, limit)

    return arguments


train = Check(
    name="clipping.train",
    title="a training loop that clips",
    reference=_train,
    terms=("parameters", "norms", "rate"),
    allowed=("coursekit.checks.clipping.gradient_of", "coursekit.clipping", "coursekit.arrays"),
    cases=(
        Case("gentle batches", 0.5, _train_case([1, 1, 1, 1], 50.0)),
        Case("one steep batch", 0.5, _train_case([0.5, 0.5, 30, 0.5, 0.5], 8.0, lr=0.05)),
        Case("steep all the way", 0.5, _train_case([3, 2, 4, 3, 2, 3], 0.5, momentum=0.9)),
        Case(
            "batches that overflow",
            0.5,
            _train_case([0.1, 1, 0.1, 20, 1, 0.1], 8.0, broken={1: 1e200, 4: math.nan}),
        ),
    ),
    misconceptions=(
        Misconception(
            "clipped-after-the-step",
            "The step is made with the raw gradient. What is clipped after it changes nothing any more.",
            ORDER,
            _with(clip=_unclipped),
        ),
        Misconception(
            "velocity-clipped",
            "The velocity is clipped, so that old gradients are cut again. Clip the gradient before it "
            "enters the velocity.",
            ORDER,
            _with(clip=_unclipped, step=_step_with_clipped_velocity),
        ),
        Misconception(
            "clipped-on-the-way-out",
            "A steep gradient enters the velocity whole and lives on in it; only what comes out is clipped.",
            ORDER,
            _with(clip=_unclipped, step=_step_along_clipped_velocity),
        ),
        Misconception(
            "step-clipped",
            "The step lr * v is held to the limit. The limit is for the gradient, before lr and momentum.",
            ORDER,
            _with(clip=_unclipped, move=_move_clipped),
        ),
        Misconception(
            "parameters-clipped",
            "The parameters are clipped. Only gradients are; the weights may grow as large as they need.",
            ORDER,
            _with(clip=_unclipped, move=_clip_parameters),
        ),
        Misconception(
            "each-on-its-own",
            "w and b are clipped by their own norms. One norm and one factor for all gradients.",
            JOINTLY,
            _with(clip=_clip_each),
        ),
        Misconception(
            "scaled-up",
            "Short gradients are stretched to the limit, so that every step has the same length.",
            NORM,
            _with(clip=lambda self, gradients, norm: _scaled(gradients, self.limit / norm)),
        ),
        Misconception(
            "steep-batches-skipped",
            "Batches above the limit are left out. Clip them: their direction is what training needs.",
            NORM,
            _with(step=_skip_steep),
        ),
        Misconception(
            "stale-gradients",
            "All gradients are taken at the first parameters. Ask gradient_of for the parameters of now.",
            ORDER,
            _with(gradients=_stale_gradients),
        ),
        Misconception(
            "gradients-pile-up",
            "Gradients of earlier batches are still in the sum. Start each batch from its own gradients.",
            ORDER,
            _with(gradients=_summed_gradients),
        ),
        Misconception(
            "uphill",
            "The step goes along the velocity, up the slope. Subtract it.",
            ORDER,
            _with(move=lambda self, step: _Loop.move(self, _scaled(step, -1))),
        ),
        Misconception(
            "momentum-forgotten",
            "The old velocity is dropped, so that there is no momentum.",
            ORDER,
            _with(enter=lambda self, name, gradient: gradient),
        ),
        Misconception(
            "gradient-dampened",
            "The gradient enters with the weight 1 - momentum. Here it enters whole: v = momentum * v + g.",
            ORDER,
            _with(enter=lambda self, name, g: self.momentum * self.velocity[name] + (1 - self.momentum) * g),
        ),
        Misconception(
            "in-place",
            "The parameters that came in were overwritten. Make new ones: p = p - lr * v, not p -= lr * v.",
            ORDER,
            _moved_in_place,
        ),
        Misconception(
            "dictionary-changed",
            "The dictionary that came in was given new arrays. Start with one of your own: "
            "parameters = dict(parameters).",
            ORDER,
            _entered_in_place,
        ),
        Misconception(
            "broken-step-made",
            "A step is made although the norm is not a finite number, and nothing is a number from then on.",
            BROKEN,
            _with(broken=_step_all_the_same),
        ),
        Misconception(
            "ends-at-the-first",
            "Training ends at the first broken batch. Leave that one out and go on.",
            BROKEN,
            _with(broken=_end),
        ),
        Misconception(
            "rolls-on",
            "At a broken batch the net still moves on with its momentum. Leave parameters and velocity as "
            "they are.",
            BROKEN,
            _with(broken=_roll_on),
        ),
        Misconception(
            "velocity-forgotten",
            "A broken batch sets the velocity to zero. Leave it as it is.",
            BROKEN,
            _with(broken=_forget_velocity),
        ),
        Misconception(
            "broken-not-logged",
            "The norm of a broken batch is missing. It belongs in the log too, one number for each batch.",
            BROKEN,
            _with(broken=lambda self, norm: False),
        ),
        Misconception(
            "broken-counted",
            "A broken batch is counted as clipped: inf > limit. It was left out, not clipped.",
            BROKEN,
            _with(broken=_count_broken),
        ),
        Misconception(
            "clipped-norms-logged",
            "The norms are measured after clipping, and never exceed the limit. Log what you saw before.",
            RATE,
            _with(logged=lambda self, norm: min(norm, self.limit)),
        ),
        Misconception(
            "rate-of-the-others",
            "This is the share of batches that were not clipped.",
            RATE,
            _with(rate=lambda self, batches: 1 - self.clipped / batches),
        ),
        Misconception(
            "count-for-rate",
            "This is how many batches were clipped. Divide by the number of all batches.",
            RATE,
            _with(rate=lambda self, batches: self.clipped),
        ),
        Misconception(
            "rate-of-steps-made",
            "Broken batches are missing in the divisor. Divide by the number of all batches.",
            RATE,
            _with(rate=lambda self, batches: self.clipped / np.isfinite(self.norms).sum()),
        ),
    ),
)
