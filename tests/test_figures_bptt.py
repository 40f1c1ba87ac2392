"""Each figure of the chapter on backpropagation through time draws what it claims: artists are read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from coursekit.bptt import checkpoint_plan, full_plan, root_plan
from coursekit.figures import bptt
from coursekit.figures.conv import BLUE, FAINT, ORANGE

PLANS = {"all": full_plan(24), "root": root_plan(24), "five": checkpoint_plan(24, 5)}
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "bptt.json"


def patches(axes, kind):
    return [patch for patch in axes.patches if isinstance(patch, kind)]


def colour(artist):
    return to_hex(artist.get_color())


@pytest.mark.parametrize("steps, at", [(3, 0), (3, 1), (3, 2), (5, 2)])
def test_two_paths_brings_one_gradient_from_each_loss_that_the_state_reaches(steps, at):
    (axes,) = bptt.two_paths(steps, at).axes
    arrows = patches(axes, FancyArrowPatch)
    back = [arrow for arrow in arrows if to_hex(arrow.get_edgecolor()) == ORANGE]
    losses = steps - at
    assert len(back) == 2 * losses + (losses - 1)
    assert len(arrows) - len(back) == 4 * steps
    marked = [node for node in patches(axes, Circle) if to_hex(node.get_edgecolor()) == ORANGE]
    assert [node.center for node in marked] == [(2.0 * at, bptt.ROWS["h"])]


def test_two_paths_names_every_weight_in_every_step():
    (axes,) = bptt.two_paths(4, 1).axes
    texts = [text.get_text() for text in axes.texts]
    assert [texts.count(rf"$\mathbf{{{name}}}$") for name in "UVW"] == [4, 4, 4]


def test_contributions_leaves_out_what_is_zero_and_draws_every_share():
    sizes = np.tril(np.ones((5, 5)))
    left, right, _ = bptt.contributions(sizes, {"before": [0.5, 0.3, 0.2], "after": [0.1, 0.2, 0.7]}, 2).axes
    assert np.ma.getmaskarray(left.images[0].get_array()).sum() == 10
    heights = [bar.get_height() for bar in patches(right, Rectangle)]
    assert heights == pytest.approx([0.5, 0.3, 0.2, 0.1, 0.2, 0.7])


def test_reach_tells_what_is_reached_from_what_is_cut_off():
    reached = np.tril(np.ones((4, 4), bool)) & ~np.tril(np.ones((4, 4), bool), -2)
    (axes,) = bptt.reach({"two steps": reached}).axes
    colours = [to_hex(square.get_facecolor()) for square in patches(axes, Rectangle)]
    assert (colours.count(BLUE), colours.count(FAINT)) == (7, 3)


def test_against_k_draws_every_curve_on_its_side():
    left, right = bptt.against_k([1, 2], {"a": [1, 0.5]}, {"a": [0, 1], "b": [1, 1]}, chance=0.25, lag=2).axes
    assert len(left.lines) == 1 + 1
    assert len(right.lines) == 2 + 2
    assert [text.get_text() for text in right.texts] == ["chance"]


@pytest.mark.parametrize("name", PLANS)
def test_a_schedule_draws_every_forward_step_and_each_backward_step_once(name):
    plan = PLANS[name]
    (axes,) = bptt.schedules({name: plan}).axes
    drawn = {
        shade: [line.get_ydata() for line in axes.lines if colour(line) == shade] for shade in (BLUE, ORANGE)
    }
    assert sum(end - start for start, end in drawn[BLUE]) == plan.forward_steps
    assert sum(start - end for start, end in drawn[ORANGE]) == plan.steps
    assert f"{plan.forward_steps} forward steps" in axes.get_title("left")


def test_a_schedule_takes_as_long_as_the_work_that_it_draws():
    plan = PLANS["five"]
    (axes,) = bptt.schedules({"five": plan}).axes
    assert max(max(line.get_xdata()) for line in axes.lines) == plan.forward_steps + plan.steps


def test_costs_draws_time_and_memory_of_the_ways_that_were_asked_for():
    rows = json.loads(RESULTS.read_text())["rows"]
    time, memory = bptt.costs(rows, {"full": "full", "root": "root of T"}).axes
    assert [line.get_label() for line in time.lines] == ["full", "root of T"]
    full = [row for row in rows if row["way"] == "full"]
    assert time.lines[0].get_ydata() == pytest.approx([1e3 * row["seconds"] for row in full])
    assert memory.lines[0].get_ydata() == pytest.approx([1e-6 * row["peak_bytes"] for row in full])
