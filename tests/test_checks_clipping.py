"""The checks of the assignment `clipping`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import math

import numpy as np
from solution_text import SolutionText

from coursekit import clipping, optim
from coursekit.checks import clipping as checks

SOLUTION = SolutionText("clipping")


SQUARED = 'float(np.sum(np.square(g, dtype="float64")))'
PROPER = f"math.sqrt(sum({SQUARED} for g in gradients.values()))"
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("clip-by-value", "np.clip(g, -limit, limit)", "np.minimum(g, limit)", 2.5, "upper-side-only"),
    ("clip-by-value", "np.clip(g, -limit, limit)", "np.clip(np.abs(g), 0, limit)", 2, "sign-lost"),
    ("clip-by-value", "np.clip(g, -limit, limit)", "g * (np.abs(g) <= limit)", 2.5, "set-to-zero"),
    ("clip-by-value", "np.clip(g, -limit, limit)", "np.clip(g, -limit, limit, out=g)", 1, "in-place"),
    ("clip-by-value", "np.clip(g, -limit, limit)", "np.sign(g) * g.dtype.type(limit)", 2.5, "scaled-up"),
    ("clip-by-value", "np.clip(g, -limit, limit)", "g * limit", 2, "limit-times"),
    (
        "clip-by-value",
        "np.clip(g, -limit, limit)",
        "g * min(1, limit / max(np.abs(a).max() for a in gradients.values()))",
        2.5,
        "divided-by-the-largest",
    ),
    ("clip-by-value", "np.abs(g) > limit", "np.abs(g) >= limit", 3.5, "limit-counts-as-cut"),
    ("clip-by-value", "np.abs(g) > limit", "g > limit", 2.5, None),
    ("clip-by-value", "np.abs(g) > limit", "np.abs(g) <= limit", 2, "kept-for-cut"),
    ("clip-by-value", " / sum(g.size for g in gradients.values())", "", 2.5, "count-for-share"),
    ("clip-by-value", "g.size", "len(g)", 2.5, None),
    ("clip-by-norm", f"sum({SQUARED} for g in gradients.values())", "norm ** 2", 0, None),
    ("clip-by-norm", " if norm > limit else 1.0", "", 3.5, "scaled-up-from-zero"),
    ("clip-by-norm", "limit / norm if", "1 / norm if", 3.5, "unit-vector"),
    ("clip-by-norm", "limit / norm if", "limit if", 3.5, "limit-times"),
    ("clip-by-norm", "limit / norm if", "norm / limit if", 3.5, "upside-down"),
    ("clip-by-norm", PROPER, PROPER.removeprefix("math.sqrt(").removesuffix(")"), 1.5, "not-rooted"),
    ("clip-by-norm", f"sum({SQUARED}", f"max({SQUARED}", 1.5, "largest-of-the-norms"),
    ("clip-by-norm", PROPER, "sum(float(np.linalg.norm(g)) for g in gradients.values())", 1.5, "norms-added"),
    (
        "clip-by-norm",
        PROPER,
        "math.sqrt(sum(float(np.linalg.norm(g, 2)) ** 2 for g in gradients.values()))",
        1.5,
        "spectral-norm",
    ),
    ("clip-by-norm", "np.sum(np.square", "np.mean(np.square", 1.5, None),
    (
        "clip-by-norm",
        "g * factor",
        "g * min(1, limit / max(np.linalg.norm(g), 1e-9))",
        3.5,
        "each-on-its-own",
    ),
    ("clip-by-norm", "g * factor", "np.clip(g, -limit, limit)", 3.5, "value-for-norm"),
    ("clip-by-norm", "}, norm", "}, min(norm, limit)", 3.5, "clipped-norm-returned"),
    ("clip-by-norm", "}, norm", "}, factor", 2.5, "factor-returned"),
    ("clip-by-norm", "g * factor", "np.multiply(g, factor, out=g)", 2, "in-place"),
    ("train", "np.zeros_like(p)", "np.ones_like(p)", 2, None),
    ("train", "gradients.items()}", "gradient_of(parameters, batch).items()}", 2.5, "clipped-after-the-step"),
    ("train", "momentum * velocity[name] + g", "g", 2, "momentum-forgotten"),
    (
        "train",
        "momentum * velocity[name] + g",
        "momentum * velocity[name] + (1 - momentum) * g",
        2,
        "gradient-dampened",
    ),
    ("train", "p - lr", "p + lr", 2, "uphill"),
    (
        "train",
        "parameters = {name: p - lr * velocity[name] for name, p in parameters.items()}",
        "parameters.update({name: p - lr * velocity[name] for name, p in parameters.items()})",
        0,
        "dictionary-changed",
    ),
    ("train", "norms.append(norm)", "norms.append(min(norm, limit))", 4.5, None),
    ("train", "if math.isfinite(norm):", "if True:", 5, "broken-step-made"),
    (
        "train",
        "norms.append(norm)\n        if math.isfinite(norm):",
        "if math.isfinite(norm):\n            norms.append(norm)",
        5.5,
        "broken-not-logged",
    ),
    (
        "train",
        "if math.isfinite(norm):\n            clipped += norm > limit",
        "clipped += norm > limit\n        if math.isfinite(norm):",
        5.5,
        "broken-counted",
    ),
    ("train", "/ len(batches)", "/ np.isfinite(norms).sum()", 5.5, "rate-of-steps-made"),
    ("train", " / len(batches)", "", 4.5, "count-for-rate"),
]


# An error that costs points in its own task alone: task -> what the solution says, what it says then
SPOILT = {"clip_by_value": ("-limit, limit", "0, limit")}


# Other honest ways, from the text of the assignment alone.


def value_by_masks(gradients, limit):
    clipped, cut, total = {}, 0, 0
    for name, g in gradients.items():
        clipped[name] = g.copy()
        for index, number in np.ndenumerate(g):
            total += 1
            if abs(number) > limit:
                clipped[name][index] = limit if number > 0 else -limit
                cut += 1
    return clipped, cut / total


def norm_of_one_vector(gradients, limit):
    norm = np.linalg.norm(np.concatenate([g.reshape(-1) for g in gradients.values()]))
    return {k: g / max(1, norm / limit) if norm else g.copy() for k, g in gradients.items()}, norm


def train_step_by_step(parameters, gradient_of, batches, lr, momentum, limit):
    now = {name: p.copy() for name, p in parameters.items()}
    velocity = dict.fromkeys(now, 0.0)
    norms = np.zeros(len(batches))
    for step, batch in enumerate(batches):
        gradients = gradient_of(now, batch)
        norms[step] = np.sqrt(sum(np.vdot(g, g) for g in gradients.values()))
        if not np.isfinite(norms[step]):
            continue
        for name, g in gradients.items():
            velocity[name] = velocity[name] * momentum + g * min(1, limit / norms[step])
            now[name] -= velocity[name] * lr
    return now, norms, np.mean((norms > limit) & np.isfinite(norms))


def train_with_clipping_of_the_library(parameters, gradient_of, batches, lr, momentum, limit):
    names = SOLUTION.written() | {"clip_by_norm": clipping.clip_norm}
    exec(SOLUTION.cells["train"], names)
    return names["train"](parameters, gradient_of, batches, lr, momentum, limit)


HONEST = [
    (checks.clip_by_value, value_by_masks),
    (checks.clip_by_norm, norm_of_one_vector),
    (checks.train, train_step_by_step),
    (checks.train, train_with_clipping_of_the_library),
]


def value_of_the_library(gradients, limit):
    return clipping.clip_value(gradients, limit).gradients, checks.clip_by_value.reference(gradients, limit)[
        1
    ]


def norm_of_the_library(gradients, limit):
    return tuple(clipping.clip_norm(gradients, limit))


def train_with_the_library(parameters, gradient_of, batches, lr, momentum, limit):
    optimiser, norms = optim.SGD(lr, momentum), []
    parameters = {name: p.copy() for name, p in parameters.items()}
    for batch in batches:
        clipped, norm = clipping.clip_norm(gradient_of(parameters, batch), limit)
        norms.append(norm)
        if math.isfinite(norm):
            optimiser.step(parameters, clipped)
    return parameters, np.array(norms), float(np.mean(np.isfinite(norms) & (np.array(norms) > limit)))


SHORTCUTS = [
    (checks.clip_by_value, value_of_the_library),
    (checks.clip_by_norm, norm_of_the_library),
    (checks.train, train_with_the_library),
]


def test_the_written_answer_has_the_numbers_right():
    raw = {"first": np.array([30.0]), "second": np.array([0.4])}
    anna = checks.clip_by_value.reference(raw, 1.0)[0]
    ben = checks.clip_by_norm.reference(raw, 1.0)[0]
    cem = {name: checks.clip_by_norm.reference({name: g}, 1.0)[0][name] for name, g in raw.items()}
    vectors = [np.concatenate(list(g.values())) for g in (raw, anna, ben, cem)]
    assert [np.round(v, 4).tolist() for v in vectors[1:]] == [[1, 0.4], [0.9999, 0.0133], [1, 0.4]]
    angles = [math.degrees(math.atan2(v[1], v[0])) for v in vectors]
    assert [round(angle - angles[0], 1) for angle in angles[1:]] == [21.0, 0, 21.0]
    assert [round(float(vectors[0] @ v), 1) for v in vectors[1:]] == [30.2, 30.0, 30.2]


def test_the_net_of_the_experiment_learns_with_a_limit_and_not_without():
    names = SOLUTION.written()
    for limit, low, high in [(math.inf, 0.4, 0.6), (0.3, 0.99, 1)]:
        net, batches = names["new_net"](0), names["new_batches"](0)
        trained, norms, rate = names["train"](net, names["parity_gradient"], batches, 0.2, 0.9, limit)
        assert low <= names["share_right"](trained) <= high
        assert len(norms) == len(batches) and norms.max() > 1
        assert 0.005 < rate < 0.3 or limit == math.inf
