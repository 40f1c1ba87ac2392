"""The script behind the trained cell: the rules of its language, its nets, and the file that it wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from coursekit.nn import LSTM

trained_cell = pytest.importorskip(
    "benchmarks.trained_cell", reason="benchmarks/ is at the repository's root"
)
ALPHABET, CHANCES = trained_cell.ALPHABET, trained_cell.CHANCES


@pytest.fixture(scope="module")
def stored():
    return json.loads(trained_cell.RESULTS.read_text())


def test_chances_are_chances_and_allow_no_character_that_the_rules_forbid():
    np.testing.assert_allclose(CHANCES.sum(axis=1), 1)
    assert CHANCES[0, ALPHABET.index(")")] == CHANCES[1, ALPHABET.index("(")] == 0


@pytest.mark.parametrize(
    "text, states",
    [("a(b)c", [0, 1, 1, 0, 0]), ('"("b', [2, 2, 0, 0]), ('(")")', [1, 3, 3, 1, 0]), ('""', [2, 0])],
)
def test_a_text_is_read_by_its_rules(text, states):
    assert trained_cell.walk(text) == states


def test_drawn_texts_have_the_states_that_reading_them_gives():
    drawn = trained_cell.draw(20, 50, 3)
    for characters, states in zip(drawn.characters.T, drawn.states.T, strict=True):
        assert trained_cell.walk(trained_cell.write(characters)) == states.tolist()


def test_drawn_characters_are_as_frequent_as_their_chances():
    drawn = trained_cell.draw(2000, 60, 0)
    before, after = drawn.states[:-1].ravel(), drawn.characters[1:].ravel()
    for state, chances in enumerate(CHANCES):
        shares = np.bincount(after[before == state], minlength=6) / (before == state).sum()
        np.testing.assert_allclose(shares, chances, atol=0.015)
        assert (shares[chances == 0] == 0).all()


def test_the_stored_net_predicts_as_the_module_that_was_trained():
    torch.manual_seed(0)
    cell, readout = LSTM(6, trained_cell.UNITS), nn.Linear(trained_cell.UNITS, 6)
    characters = trained_cell.draw(5, 20, 0).characters
    with torch.no_grad():
        h, _ = cell(torch.eye(6)[torch.from_numpy(characters)])
        expected = torch.softmax(readout(h), -1).numpy()
    got, _ = trained_cell.predict(trained_cell.weights_of(cell, readout), characters)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_excess_is_zero_for_the_true_chances_and_the_divergence_else():
    states = np.array([0, 1, 3])
    np.testing.assert_allclose(
        trained_cell.excess(np.maximum(CHANCES[states], 1e-300), states), 0, atol=1e-12
    )
    uniform = np.full((1, 6), 1 / 6)
    p = CHANCES[0][CHANCES[0] > 0]
    np.testing.assert_allclose(trained_cell.excess(uniform, np.array([0])), np.sum(p * np.log(6 * p)))


def test_correlations_find_a_unit_that_is_the_fact():
    states = np.arange(40).reshape(10, 4) % 4
    c = np.stack([states % 2, -(states // 2), np.random.default_rng(0).normal(size=states.shape)], -1)
    found = trained_cell.correlations(c, states)
    np.testing.assert_allclose(found[:2], [[1, 0], [0, -1]], atol=1e-12)
    assert np.abs(found[2]).max() < 0.6


def test_a_few_updates_lower_the_loss():
    test = trained_cell.draw(50, 40, 1)
    losses = [trained_cell.loss_above(trained_cell.train(0, updates=n), test) for n in (1, 80)]
    assert losses[1] < losses[0]


def test_the_file_holds_what_the_script_says_of_its_nets(stored):
    test = trained_cell.draw(trained_cell.TESTED, trained_cell.TEST_LENGTH, 1000)
    again = json.loads(trained_cell.layout(trained_cell.describe(stored["nets"], test)))
    for name in (
        "settings",
        "alphabet",
        "states",
        "chances",
        "next",
        "texts",
        "chosen",
        "unit",
        "from",
        "look",
    ):
        assert again[name] == stored[name], name
    for net in stored["nets"]:
        np.testing.assert_allclose(net["excess"], trained_cell.loss_above(net, test), rtol=1e-6)
        np.testing.assert_allclose(net["readability"], trained_cell.readability(net, test), rtol=1e-6)


def test_the_file_is_small_enough_to_stand_in_a_page(stored):
    assert trained_cell.RESULTS.stat().st_size < 60_000
    assert len(stored["nets"]) == len(trained_cell.SEEDS)
    assert {len(text) for text in stored["texts"]} == {trained_cell.TEXT_LENGTH}
