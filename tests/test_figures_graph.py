"""Each figure of the pages on graphs draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.patches import Circle, PathPatch

from coursekit.book import STATIC
from coursekit.figures import graph as figures
from coursekit.graph import RecurrentGraph, mass_spring, newton_cooling, unfold

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def plain(edges="x h u, h h w, h y v"):
    net = RecurrentGraph()
    net.add_unit("x", external=True)
    for name in "hy":
        net.add_unit(name)
    for edge in edges.split(","):
        net.connect(*edge.split())
    return net


def texts(axes):
    return [text.get_text() for text in axes.texts]


def circles(axes):
    return [patch for patch in axes.patches if isinstance(patch, Circle)]


def curves(axes):
    return [patch for patch in axes.patches if isinstance(patch, PathPatch)]


def looks(axes):
    return {(curve.get_edgecolor(), curve.get_linestyle()) for curve in curves(axes)}


def kinds_in_key(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_feedback_draws_every_unit_and_connection_and_names_the_kinds_it_drew():
    fig = figures.feedback({"none": plain("x h u, h y v"), "some": plain("x h u, h h w, h y v, y h r")})
    none, some = fig.axes
    assert [len(circles(axes)) for axes in fig.axes] == [3, 3]
    assert (len(curves(none)), len(curves(some))) == (2, 4)
    assert (len(looks(none)), len(looks(some))) == (1, 3)
    assert kinds_in_key(fig) == ["forward", "direct", "indirect"]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_unfolding_draws_the_unfolded_graph_node_by_node_and_edge_by_edge(steps):
    net = plain()
    left, right = figures.unfolding(net, steps).axes
    graph = unfold(net, steps).graph
    assert (len(circles(left)), len(curves(left))) == (3, 3)
    assert (len(circles(right)), len(curves(right))) == (len(graph.nodes), len(graph.edges))
    count = Counter(texts(right))
    assert [count[name] for name in "uwv"] == [steps] * 3
    assert {f"$h_{{{t}}}$" for t in range(-1, steps)} <= set(count)


def test_only_the_values_before_the_first_step_have_a_dotted_border():
    _, right = figures.unfolding(plain(), 3).axes
    dotted = [circle for circle in circles(right) if circle.get_linestyle() == ":"]
    assert [circle.center[0] for circle in dotted] == [min(circle.center[0] for circle in circles(right))]


@pytest.mark.parametrize("order, squares", [("synchronous", 4), (("v", "x"), 3)])
def test_a_circuit_has_a_square_for_every_delay(order, squares):
    left, _ = figures.unfolding(mass_spring(0.1), 2, order=order).axes
    assert len([line for line in left.lines if line.get_marker() == "s"]) == squares


def test_strengths_are_written_with_the_known_factors_around_the_parameter():
    left, _ = figures.unfolding(newton_cooling(0.1), 2).axes
    assert {"0.1 k", "1 − 0.1 k"} <= set(texts(left))
    left, _ = figures.unfolding(mass_spring(0.1), 2).axes
    assert {"1", "0.1", "−0.1 k/m"} <= set(texts(left))


def test_everything_that_is_drawn_lies_inside_the_axes():
    for net in (plain(), plain("x h u, h h w, h y v, x y s"), mass_spring(0.1)):
        for axes in figures.unfolding(net, 4).axes:
            box = axes.dataLim
            assert axes.get_xlim()[0] < box.x0 and box.x1 < axes.get_xlim()[1]


def test_frames_show_one_drawing_and_hide_the_others():
    page = figures.unfolding_frames(plain(), [1, 2, 5], shown=2)._repr_html_()
    images = re.findall(r'<img src="(.*?)" alt="(.*?)" data-label="(\d)"( hidden)? />', page)
    assert [(label, bool(hidden)) for *_, label, hidden in images] == [("1", True), ("2", False), ("5", True)]
    assert "15 units, 15 connections, 3 parameters (u, w, v)" in images[2][1]
    sizes = {re.search(r'viewBox="(.*?)"', unquote(source)).group(1) for source, *_ in images}
    assert len(sizes) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_slider_shows_the_drawing_of_its_position_and_says_what_it_counts(tmp_path):
    frames = figures.unfolding_frames(plain(), [1, 2, 5], shown=2)._repr_html_()
    scripts = [
        f'<script src="{STATIC / "interactive" / name}"></script>' for name in ("controls.js", "frames.js")
    ]
    box = '<div data-interactive="frames" hidden></div>'
    move = "const s = document.querySelector('input'); s.value = 2; s.dispatchEvent(new Event('input'))"
    page = tmp_path / "page.html"
    page.write_text(f"<figure>{frames}</figure>{box}{''.join(scripts)}<script>{move}</script>", "utf8")
    options = ["--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--dump-dom"]
    ran = subprocess.run([CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=120)
    images = re.findall(r'<img [^>]*data-label="(\d)"( hidden="")?>', ran.stdout)
    assert [(label, bool(hidden)) for label, hidden in images] == [("1", True), ("2", True), ("5", False)]
    assert '<div data-interactive="frames">' in ran.stdout
    assert 'aria-valuetext="5"' in ran.stdout
    assert "T = 5: 15 units, 15 connections, 3 parameters (u, w, v).</p>" in ran.stdout


TIMES = np.linspace(0, 1, 5)


@pytest.mark.parametrize(
    "figure",
    [
        figures.cooling(TIMES, {"dt = 1": (TIMES, TIMES)}, TIMES, 20.0),
        figures.spring(TIMES, {"in turn": (TIMES, TIMES)}, TIMES),
        figures.learning([1.0, 0.1], [2.0, 5.0], 5.0, {"data": (TIMES, TIMES, "o")}),
        figures.valleys(TIMES, {"2 s": TIMES}, 5.0),
    ],
    ids=["cooling", "spring", "learning", "valleys"],
)
def test_plots_label_both_axes_with_a_unit_or_a_count(figure):
    for axes in figure.axes:
        assert axes.get_ylabel().endswith(")")
        assert axes.get_xlabel().endswith(")") or axes.get_xlabel() == "step of training"


def test_cooling_draws_each_run_over_its_own_times():
    (axes,) = figures.cooling(TIMES, {"coarse": ([0, 1], [80, 20])}, TIMES, 20.0).axes
    assert list(axes.lines[-1].get_xdata()) == [0, 1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ambient", "exact", "coarse"]


def test_spring_draws_each_run_over_time_and_in_the_plane_in_one_look():
    fig = figures.spring(TIMES, {"a": (TIMES, TIMES + 1), "b": (TIMES, -TIMES)}, TIMES)
    over_time, plane = fig.axes
    assert [line.get_color() for line in over_time.lines[1:]] == [
        line.get_color() for line in plane.lines[::2]
    ]
    assert list(plane.lines[2].get_ydata()) == list(-TIMES)
