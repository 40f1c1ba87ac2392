"""Training: the loop's bookkeeping, its errors, and what it reaches on real digits with NumPy alone."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from coursekit import data
from coursekit.layers import Conv2d, Dense, Detector, Flatten, MaxPool2d, Sequential
from coursekit.losses import cross_entropy_backward, cross_entropy_forward, error_rate
from coursekit.optim import SGD, AdamW, cosine, one_cycle
from coursekit.train import History, TrainingError, evaluate, fit

SHARED = Path(__file__).parents[2] / "shared" / "data"


def clusters(rng, count=70):
    """Points around three corners, one class each."""
    labels = rng.integers(0, 3, size=count)
    return rng.normal(size=(count, 2)) * 0.3 + np.array([[0, 2], [2, 0], [-2, -2]])[labels], labels


def linear(rng, init="zeros"):
    return Sequential(Dense(2, 3, init=init, rng=rng, dtype="float64"))


def small_net(side, filters, rng):
    """Two convolution layers, each with detector and pooling, and a classifier that knows nothing yet."""
    return Sequential(
        Conv2d(1, filters, 3, padding=1, rng=rng),
        Detector("relu"),
        MaxPool2d(2),
        Conv2d(filters, 2 * filters, 3, padding=1, rng=rng),
        Detector("relu"),
        MaxPool2d(2),
        Flatten(),
        Dense(2 * filters * (side // 4) ** 2, 10, init="zeros", rng=rng),
    )


# Bookkeeping


def test_the_history_has_a_loss_per_step_and_the_rest_per_epoch(rng):
    x, labels = clusters(rng)
    options = {"epochs": 3, "batch_size": 11, "rng": rng}
    history = fit(linear(rng), SGD(0.1), x, labels, validation=(x, labels), **options)
    assert len(history.loss) == 3 * 7
    assert len(history.error) == len(history.validation_error) == len(history.seconds) == 3
    assert history.seconds == sorted(history.seconds)


def test_without_validation_there_is_no_validation_error(rng):
    x, labels = clusters(rng)
    history = fit(linear(rng), SGD(0.1), x, labels, epochs=1, batch_size=11, rng=rng)
    assert history.validation_error == []


def test_the_first_loss_of_a_model_that_knows_nothing_is_the_logarithm_of_the_classes(rng):
    x, labels = clusters(rng)
    history = fit(linear(rng), SGD(0.1), x, labels, epochs=1, batch_size=11, rng=rng)
    assert history.loss[0] == pytest.approx(math.log(3), rel=1e-12)


def test_clusters_are_learnt(rng):
    x, labels = clusters(rng)
    model = linear(rng)
    fit(model, SGD(0.5), x, labels, epochs=20, batch_size=7, rng=rng)
    assert evaluate(model, x, labels).error == 0


def test_one_batch_of_everything_is_plain_gradient_descent(rng):
    x, labels = clusters(rng)
    model = linear(np.random.default_rng(0), init="he")
    w = torch.tensor(model.parameters["0.w"], requires_grad=True)
    b = torch.tensor(model.parameters["0.b"], requires_grad=True)
    reference = torch.optim.SGD([w, b], lr=0.3)
    for _ in range(5):
        reference.zero_grad()
        torch.nn.functional.cross_entropy(torch.tensor(x) @ w + b, torch.tensor(labels)).backward()
        reference.step()
    fit(model, SGD(0.3), x, labels, epochs=5, batch_size=len(x), rng=rng)
    np.testing.assert_allclose(model.parameters["0.w"], w.detach().numpy(), rtol=1e-11)
    np.testing.assert_allclose(model.parameters["0.b"], b.detach().numpy(), rtol=1e-11)


def test_equal_seeds_give_equal_histories_and_other_seeds_others(rng):
    x, labels = clusters(rng)

    def losses(seed):
        rng = np.random.default_rng(seed)
        return fit(linear(rng), SGD(0.1), x, labels, epochs=2, batch_size=7, rng=rng).loss

    assert losses(3) == losses(3)
    assert losses(3) != losses(5)


def test_every_epoch_shows_every_example_once_in_a_new_order(rng):
    seen = []

    class Recorder(Dense):
        def forward(self, x):
            seen.append(x[:, 0])
            return super().forward(x)

    x = np.arange(7.0)[:, None] / 7
    model = Recorder(1, 2, rng=rng, dtype="float64")
    fit(model, SGD(0.1), x, np.zeros(7, int), epochs=2, batch_size=3, rng=rng)
    assert [len(batch) for batch in seen] == [3, 3, 1] * 2
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert set(first) == set(second) == set(x[:, 0])
    assert list(first) != list(second)


def test_the_schedule_is_asked_at_every_step(rng):
    x, labels = clusters(rng)
    asked = []

    def schedule(step, steps):
        asked.append((step, steps))
        return 0.0

    model = linear(rng)
    fit(model, SGD(0.1), x, labels, epochs=2, batch_size=35, rng=rng, schedule=schedule)
    assert asked == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert not model.parameters["0.w"].any()


def test_the_loss_can_be_replaced(rng):
    x, labels = clusters(rng)

    def summed(z, labels):
        return cross_entropy_forward(z, labels, reduction="sum")

    by_sum, by_mean = linear(rng), linear(rng)
    options = {"epochs": 2, "batch_size": 10, "schedule": cosine()}
    loss = (summed, cross_entropy_backward)
    fit(by_sum, SGD(0.01), x, labels, loss=loss, rng=np.random.default_rng(0), **options)
    fit(by_mean, SGD(0.1), x, labels, rng=np.random.default_rng(0), **options)
    np.testing.assert_allclose(by_sum.parameters["0.w"], by_mean.parameters["0.w"], rtol=1e-11)


def test_training_runs_on_every_array_library(library, rng):
    x, labels = clusters(rng)
    model = linear(rng).to(library.array([0.0]))
    labels = torch.from_numpy(labels).to(library.device) if library.name == "torch" else labels
    history = fit(model, SGD(0.5), library.array(x), labels, epochs=10, batch_size=7, rng=rng)
    assert history.error[-1] < 0.05


def test_evaluation_does_not_depend_on_the_batches(rng):
    x, labels = clusters(rng)
    model = linear(rng, init="he")
    z = model(x)
    for batch_size in (1, 11, 256):
        loss, error = evaluate(model, x, labels, batch_size=batch_size)
        assert loss == pytest.approx(cross_entropy_forward(z, labels)[0], rel=1e-12)
        assert error == pytest.approx(error_rate(z, labels), rel=1e-12)


@pytest.mark.parametrize("progress", [True, False])
def test_no_progress_bar_is_printed_unless_to_a_terminal(progress, capfd, rng):
    x, labels = clusters(rng)
    fit(linear(rng), SGD(0.1), x, labels, epochs=1, batch_size=11, rng=rng, progress=progress)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


# Errors


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_history(rng):
    x, labels = clusters(rng)
    x[5] = np.nan
    model = linear(rng)
    message = r"loss is nan at step \d+; lower the learning rate \(lr=0.1\)"
    with pytest.raises(TrainingError, match=message) as caught:
        fit(model, SGD(0.1), x, labels, epochs=1, batch_size=1, rng=rng)
    losses = caught.value.history.loss
    assert isinstance(caught.value.history, History)
    assert np.isfinite(losses[:-1]).all()
    assert np.isnan(losses[-1])
    assert np.isfinite(model.parameters["0.w"]).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "fit: epochs must be >= 1, got 0"),
        ({"batch_size": 0}, "fit: batch_size must be >= 1, got 0"),
        ({"x": np.zeros((0, 2)), "labels": np.zeros(0, int)}, r"fit: the data set is empty \(x \(0, 2\)\)"),
        ({"labels": np.zeros(3, int)}, r"fit: x \(70, 2\) needs labels of shape \(70,\), got \(3,\)"),
        ({"labels": np.full(70, 3)}, "labels run from 3 to 3, but z has 3 classes"),
        ({"labels": [0] * 70}, "fit: labels are a list, not an array"),
        ({"x": [[0.0, 1.0]] * 70}, "fit: x is a list, not an array"),
        ({"epochs": 1.5}, "fit: epochs must be an integer, got 1.5"),
        ({"rng": 0}, "fit: rng must be a numpy.random.Generator such as default_rng"),
        ({"validation": (np.zeros((5, 2)), np.zeros(3, int))}, r"fit: validation: x \(5, 2\) needs labels"),
    ],
)
def test_training_on_nonsense_is_refused_before_the_first_step(changes, message, rng):
    x, labels = clusters(rng)
    arguments = {"x": x, "labels": labels, "epochs": 1, "batch_size": 7, "rng": rng} | changes
    optimiser = SGD(0.1)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(linear(rng), optimiser, **arguments)
    assert optimiser.steps == 0


def test_batches_of_no_size_are_refused(rng):
    with pytest.raises(ValueError, match="evaluate: batch_size must be >= 1, got -1"):
        evaluate(linear(rng), *clusters(rng), batch_size=-1)


def test_evaluating_on_nothing_is_refused(rng):
    with pytest.raises(ValueError, match="evaluate: the data set is empty"):
        evaluate(linear(rng), np.zeros((0, 2)), np.zeros(0, int))


# Real digits, NumPy alone


def train_on(load, filters, epochs, lr, seed):
    rng = np.random.default_rng(seed)
    train, test = load("train"), load("test")
    net = small_net(train.x.shape[-1], filters, rng)
    options = {"epochs": epochs, "batch_size": 64, "rng": rng, "schedule": one_cycle()}
    started = time.process_time()
    history = fit(net, AdamW(lr), train.x, train.labels, **options)
    return history, evaluate(net, test.x, test.labels).error, time.process_time() - started


def test_numpy_layers_learn_the_embedded_digits():
    history, error, seconds = train_on(data.digits, filters=16, epochs=20, lr=1e-2, seed=0)
    assert history.loss[0] == pytest.approx(math.log(10), rel=1e-6)
    assert error <= 0.02
    assert seconds < 20


@pytest.mark.skipif(
    not (os.environ.get("COURSEKIT_DATA_DIR") or SHARED.is_dir()), reason="needs a folder with MNIST's files"
)
def test_numpy_layers_learn_mnist_within_a_minute(monkeypatch):
    monkeypatch.setenv("COURSEKIT_DATA_DIR", os.environ.get("COURSEKIT_DATA_DIR") or str(SHARED))
    history, error, seconds = train_on(data.mnist, filters=8, epochs=3, lr=1e-2, seed=0)
    assert history.loss[0] == pytest.approx(math.log(10), rel=1e-6)
    assert error <= 0.03
    assert seconds < 60
