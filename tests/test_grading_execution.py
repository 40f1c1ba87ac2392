"""Running a hand-in: equal to one process where the student is honest, proof against one who is not."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from grading_notebooks import QUICK, answered, cell, job, notebook, texts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux")

SQUARES = notebook(
    cell("import numpy as np", "locked", "setup"),
    cell("def squares(n):\n    return [i**2 for i in range(1, n + 1)]", "solution", "squares"),
    cell("assert squares(1) == [1]\nassert squares(3) == [1, 4, 9]", "test", "test-squares", 2),
    cell("def total(n):\n    return sum(squares(n))", "solution", "total"),
    cell("assert total(3) == 14\nassert np.allclose(total(1), 1)", "test", "test-total", 3),
)


@pytest.fixture(scope="module")
def executor():
    from coursekit.grading.execution.executor import Executor

    with Executor(["numpy", "torch", "coursekit", "matplotlib"]) as running:
        yield running


@pytest.fixture
def grade(executor):
    """Points by grade id, and the whole result, of a hand-in whose solution cells hold other texts."""

    def run(source, answers=None, **options):
        result = executor.run(job(source, answered(source, answers or {}), **options))
        return {name: score.points for name, score in result.scores.items()}, result

    return run


def function_task(test: str, solution: str = "def f(x):\n    return x * x", points: float = 1):
    """A notebook with one function and one test of it."""
    return notebook(
        cell("import numpy as np", "locked", "setup"),
        cell(solution, "solution", "f"),
        cell(test, "test", "test-f", points),
    )


# ---- Honest work


def test_the_instructors_solution_earns_everything(grade):
    points, result = grade(SQUARES)
    assert points == {"test-squares": 2, "test-total": 3}
    assert result.findings == ()


def test_a_wrong_function_costs_its_own_tests_only(grade):
    points, _ = grade(SQUARES, {"total": "def total(n):\n    return 0"})
    assert points == {"test-squares": 2, "test-total": 0}


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("0.5", 0.5),
        ("assert f(2) == 4\n0.25", 0.25),
        ("'some text'", 1),
        ("print('seen'); f(2)\nNone", 1),
        ("import sys\nprint('a warning', file=sys.stderr)", 1),
        ("0.5\nraise ValueError", 0),
        ("float('nan')", 0),
        ("7", 0),
        ("-1", 0),
    ],
)
def test_a_test_cell_earns_what_it_shows(grade, test, expected):
    assert grade(function_task(test))[0] == {"test-f": expected}


def test_points_out_of_range_ask_for_a_person(grade):
    _, result = grade(function_task("7"))
    assert result.scores["test-f"].review == "the result is 7.0, which is not a number of points from 0 to 1"


@pytest.mark.parametrize(
    "value",
    [
        "None", "True", "3", "2**80", "1.5", "float('inf')", "'text'", "b'bytes'", "1j", "[1, [2, (3,)]]",
        "{1: 'a', (1, 2): [3]}", "{1, 2}", "range(3)", "slice(1, None)", "np.float32(2.5)",
        "np.ones((2, 3), 'f4')", "np.array(['a', 'bb'])",
        "np.arange(6).reshape(2, 3).T", "np.zeros((0, 3))", "np.dtype('f4')",
    ],
)  # fmt: skip
def test_a_value_arrives_as_it_was(grade, value):
    solution = f"import numpy as np\ndef f():\n    return {value}"
    test = f"want, got = {value}, f()\nassert type(got) is type(want)\nassert repr(got) == repr(want)"
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


TORCH = """
import torch
got = f(torch.ones(2, 3))
assert type(got) is torch.Tensor and got.dtype == torch.float32 and got.device.type == "cpu"
assert torch.equal(got, torch.ones(2, 3))
meta = f(torch.empty(2, 3, device="meta"))
assert meta.is_meta and meta.shape == (2, 3)
"""


def test_tensors_cross_on_every_device(grade):
    assert grade(function_task(TORCH))[0] == {"test-f": 1}


def test_a_gradient_goes_back_through_the_students_function(grade):
    test = (
        "import torch\nx = torch.arange(3.0, requires_grad=True)\nf(x).sum().backward()\n"
        "assert torch.equal(x.grad, 2 * x.detach())"
    )
    assert grade(function_task(test))[0] == {"test-f": 1}


def test_modules_and_optimisers_are_reached_where_they_live(grade):
    solution = (
        "import torch\nmodel = torch.nn.Linear(2, 1)\noptimiser = torch.optim.SGD(model.parameters(), 0.1)\n"
        "def f(x):\n    return model(x)"
    )
    test = (
        "import torch\nassert isinstance(model, torch.nn.Module)\n"
        "before = model.weight.detach().clone()\n"
        "optimiser.zero_grad()\nf(torch.ones(1, 2)).sum().backward()\n"
        "assert torch.equal(model.weight.grad, torch.ones(1, 2))\noptimiser.step()\n"
        "assert torch.allclose(model.weight, before - 0.1)\nassert len(list(model.parameters())) == 2"
    )
    source = notebook(
        cell(solution, "solution", "f"),
        cell(test, "test", "test-f", 1),
    )
    assert grade(source)[0] == {"test-f": 1}


def test_a_module_of_the_tests_is_trained_in_place(grade):
    solution = "def f(model, optimiser, x):\n    model(x).sum().backward()\n    optimiser.step()"
    test = (
        "import torch\nnet = torch.nn.Linear(2, 1)\noptimiser = torch.optim.SGD(net.parameters(), 0.1)\n"
        "before = net.weight.detach().clone()\nf(net, optimiser, torch.ones(1, 2))\n"
        "assert torch.allclose(net.weight, before - 0.1)"
    )
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


def test_a_figure_can_be_looked_at(grade):
    source = notebook(
        cell("import matplotlib.pyplot as plt", "locked", "setup"),
        cell("fig, ax = plt.subplots()\nax.plot([1, 2], [3, 4])\nax.set_title('rows');", "solution", "plot"),
        cell(
            "assert ax.get_title() == 'rows'\nassert list(ax.lines[0].get_ydata()) == [3, 4]\n"
            "assert isinstance(ax, plt.Axes)\nassert len(fig.axes) == 1",
            "test", "test-plot", 1,
        ),
    )  # fmt: skip
    points, result = grade(source)
    assert points == {"test-plot": 1}
    assert "image/png" in texts(result.cells["cells"], "plot")


def test_arguments_changed_in_place_are_seen(grade):
    solution = "def f(array, items, table):\n    array += 1\n    items.append(3)\n    table['new'] = items"
    test = (
        "a, l, d = np.zeros(2), [1], {}\nf(a, l, d)\nassert a.tolist() == [1, 1]\nassert l == [1, 3]\n"
        "assert d == {'new': [1, 3]}"
    )
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


STREAMS = {
    "numpy": (
        "def f():\n    return np.random.rand()",
        "np.random.seed(3)\na = f()\nnp.random.seed(3)\nassert a == np.random.rand()",
    ),
    "random": (
        "import random\ndef f():\n    return random.random()",
        "import random\nrandom.seed(3)\na = f(), random.random()\nrandom.seed(3)\nassert a == (f(), f())",
    ),
    "torch": (
        "import torch\ndef f():\n    return torch.rand(2)",
        "import torch\ntorch.manual_seed(3)\na = f()\ntorch.manual_seed(3)\n"
        "assert torch.equal(a, torch.rand(2))",
    ),
    "a cell": (
        "np.random.seed(5)\ndef f():\n    return 0",
        "a = np.random.rand()\nnp.random.seed(5)\nassert a == np.random.rand()",
    ),
}


@pytest.mark.parametrize(("solution", "test"), STREAMS.values(), ids=STREAMS)
def test_both_processes_draw_from_one_stream(grade, solution, test):
    assert grade(function_task(test, f"import numpy as np\n{solution}"))[0] == {"test-f": 1}


@pytest.mark.parametrize(
    "test",
    [
        "a = [1]\nassert f(a) is a and f([a])[0] is a",
        "a = np.ones(2)\nassert f(a) is a and f(a + 0) is not a",
        "a = {}\nassert f((a, 1))[0] is a",
        "data = [3]\na = [1]\nassert f(a) is a and a == [1]",
    ],
)
def test_an_argument_that_comes_back_is_the_same_object(grade, test):
    assert grade(function_task(test, "data = [0]\ndef f(x):\n    return x"))[0] == {"test-f": 1}


@pytest.mark.parametrize(
    ("value", "test"),
    [
        ("Stack([1, 2])", "assert f() == [1, 2] and [1, 2] == f() and f() != [1] and f() + [3] == [1, 2, 3]"),
        ("Metre(2.5)", "assert f() == 2.5 and f() < 3 and abs(f() - 2.5) < 1e-9 and 1 + f() == 3.5"),
    ],
    ids=["list", "float"],
)  # fmt: skip
def test_data_of_a_class_of_the_students_own_compares_as_what_it_extends(grade, value, test):
    solution = f"class Stack(list): pass\nclass Metre(float): pass\ndef f():\n    return {value}"
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


def test_a_function_of_the_test_can_be_handed_over(grade):
    solution = "def f(g, x):\n    return g(x) + g(x + 1)"
    test = "assert f(lambda x: 10 * x, 1) == 30\nassert f(np.sqrt, 0) == 1"
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


def test_exceptions_keep_their_class_and_text(grade):
    solution = (
        "class Odd(KeyError):\n    pass\n"
        "def f(x):\n    raise (ValueError('no ' + str(x)) if x else Odd('yes'))"
    )
    test = (
        "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no 1'\nelse:\n"
        "    assert False\n"
        "try:\n    f(0)\nexcept Odd:\n    pass\n"
        "try:\n    f(0)\nexcept KeyError as error:\n    assert error.args == ('yes',)"
    )
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


def test_an_error_names_the_students_own_line(grade):
    points, result = grade(function_task("f(0)", "def f(x):\n    y = 1\n    return y / x"))
    assert points == {"test-f": 0}
    text = texts(result.cells["cells"], "test-f")
    assert "ZeroDivisionError" in text and "return y / x" in text


def test_classes_can_be_tested(grade):
    solution = (
        "class Vector:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n"
        "        return self.x == getattr(other, 'x', other)\n    def __add__(self, other):\n"
        "        return Vector(self.x + other.x)\n    def __len__(self):\n        return 2\n"
        "    def __getitem__(self, i):\n        return self.x"
    )
    test = (
        "v = Vector(3)\nassert isinstance(v, Vector)\nassert v == Vector(3)\nassert not v == Vector(4)\n"
        "assert v == 3\n"
        "assert (v + v).x == 6\nassert len(v) == 2\nassert v[0] == 3\nv.x = 5\nassert v.x == 5\n"
        "assert Vector(1) + v == Vector(6)"
    )
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


def test_generators_signatures_and_sources_are_there(grade):
    solution = "def f(n, *, start=1):\n    '''Count.'''\n    for i in range(start, n):\n        yield i"
    test = (
        "import inspect\nassert list(f(4)) == [1, 2, 3]\n"
        "assert str(inspect.signature(f)) == '(n, *, start=1)'\n"
        "assert 'yield' in inspect.getsource(f)\nassert f.__doc__ == 'Count.'\nassert f.__name__ == 'f'"
    )
    assert grade(function_task(test, solution))[0] == {"test-f": 1}


TAKEN_AWAY = """
original = squares
del squares
try:
    total(1)
except NameError:
    pass
else:
    raise AssertionError("total does not use squares")
finally:
    squares = original
assert total(3) == 14
calls = []
def counting(n):
    calls.append(n)
    return original(n)
squares = counting
total(2)
squares = original
assert calls == [2]
"""


@pytest.mark.parametrize(("total", "points"), [("sum(squares(n))", 3), ("sum(i * i for i in range(n))", 0)])
def test_a_test_may_take_a_function_away_from_the_student(grade, total, points):
    source = notebook(*SQUARES.cells[:4], cell(TAKEN_AWAY, "test", "test-total", 3))
    assert grade(source, {"total": f"def total(n):\n    return {total}"})[0]["test-total"] == points


def test_what_a_student_prints_stands_in_the_test_that_called(grade):
    points, result = grade(function_task("f(1)", "def f(x):\n    print('here', x)"))
    assert points == {"test-f": 1}
    assert "here 1" in texts(result.cells["cells"], "test-f")


def test_a_later_cell_may_use_what_a_visible_test_defines(grade):
    source = notebook(
        cell("a = 1", "solution", "one"),
        cell("data = [a, 2]\nassert data == [1, 2]", "test", "test-one", 1),
        cell("b = sum(data)", "solution", "two"),
        cell("assert b == 3", "test", "test-two", 1),
    )
    assert grade(source)[0] == {"test-one": 1, "test-two": 1}


def test_a_hidden_test_hands_nothing_on(grade):
    hidden = "### BEGIN HIDDEN TESTS\nanswer = 42\n### END HIDDEN TESTS\nassert f(1) == 1"
    source = notebook(
        cell("def f(x):\n    return x", "solution", "f"),
        cell(hidden, "test", "test-f", 1),
        cell("try:\n    stolen = answer\nexcept NameError:\n    stolen = None", "solution", "g"),
        cell("assert stolen is None", "test", "test-g", 1),
    )
    assert grade(source)[0] == {"test-f": 1, "test-g": 1}


RECORDS = "seen = []\ndef f(x):\n    seen.append(x)\n    return x"
HIDDEN = "assert f(1) == 1\n### BEGIN HIDDEN TESTS\nassert f(4711) == 4711\n### END HIDDEN TESTS"


@pytest.mark.parametrize("slow", [False, True])
def test_what_a_hidden_test_hands_over_is_forgotten(grade, slow):
    """Unless the cells before take too long to be run again."""
    source = notebook(
        cell(RECORDS, "solution", "f"),
        cell(HIDDEN, "test", "test-f", 1),
        cell("print(seen)", "solution", "look"),
        cell("def g():\n    return len(seen)", "solution", "g"),
        cell("assert g() == 0", "test", "test-g", 1),
    )
    limits = replace(QUICK, repeat_seconds=0) if slow else QUICK
    points, result = grade(source, limits=limits)
    assert points == {"test-f": 1, "test-g": not slow}
    assert ("4711" in texts(result.cells["cells"], "look")) is slow
    assert result.findings == ()


def test_what_a_hidden_test_changed_stays_changed(grade):
    change = "data = [1]\nassert total() == 1\n### BEGIN HIDDEN TESTS\npass\n### END HIDDEN TESTS"
    source = notebook(
        cell("data = [5]\ndef total():\n    return sum(data)", "solution", "total"),
        cell(change, "test", "test-one", 1),
        cell("seen = total()", "solution", "seen"),
        cell("assert seen == 1", "test", "test-two", 1),
    )
    assert grade(source)[0] == {"test-one": 1, "test-two": 1}


def test_helpers_of_locked_cells_serve_both_sides(grade):
    source = notebook(
        cell("SCALE = 10\ndef scaled(g, x):\n    return SCALE * g(x)", "locked", "helpers"),
        cell("def f(x):\n    return SCALE + x", "solution", "f"),
        cell("assert scaled(f, 1) == 110", "test", "test-f", 1),
    )
    assert grade(source)[0] == {"test-f": 1}


def test_files_beside_the_notebook_can_be_read(grade):
    source = function_task("assert f('data/numbers.txt') == [1, 2]", "def f(p):\n"
        "    return [int(x) for x in open(p)]")
    assert grade(source, files={"data/numbers.txt": b"1\n2\n"})[0] == {"test-f": 1}


def test_pools_and_data_loaders_work(grade):
    solution = (
        "import multiprocessing, torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "def double(x):\n    return 2 * x\n"
        "def f():\n    with multiprocessing.Pool(2) as pool:\n        return pool.map(double, [1, 2])\n"
        "def load():\n    data = TensorDataset(torch.arange(4))\n"
        "    loader = DataLoader(data, batch_size=2, num_workers=2, prefetch_factor=2)\n"
        "    return [b.sum().item() for (b,) in loader]"
    )
    assert grade(function_task("assert f() == [2, 4]\nassert load() == [1, 5]", solution))[0] == {"test-f": 1}


def test_a_file_that_the_student_writes_can_be_read_by_a_test_and_back(grade):
    source = notebook(
        cell("from pathlib import Path\nPath('out.txt').write_text('one')", "solution", "a"),
        cell("from pathlib import Path\nassert Path('out.txt').read_text() == 'one'", "test", "test-a", 1),
        cell("def f(name):\n    return Path(name).read_text()", "solution", "f"),
        cell("Path('in.txt').write_text('two')\nassert f('in.txt') == 'two'", "test", "test-f", 1),
    )
    assert grade(source)[0] == {"test-a": 1, "test-f": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="files are guarded by Landlock")
@pytest.mark.parametrize(
    ("trap", "test", "reason"),
    [
        ("os.symlink('{canary}', 'out.txt')", "open('out.txt', 'w').write('x')", "PermissionError"),
        ("os.symlink('{canary}', 'out.txt')", "assert open('out.txt').read() == 'secret'", "PermissionError"),
        ("os.mkfifo('out.txt')", "open('out.txt').read()", "did not finish within 4 s"),
    ],
    ids=["write", "read", "fifo"],
)
def test_a_trap_among_the_students_files_costs_one_question(grade, tmp_path, trap, test, reason):
    canary = tmp_path / "canary"
    canary.write_text("secret")
    source = notebook(
        cell("pass", "solution", "a"),
        cell(test, "test", "test-a", 1),
        cell("assert True", "test", "test-b", 1),
    )
    points, result = grade(source, {"a": f"import os\n{trap.format(canary=canary)}"})
    assert points == {"test-a": 0, "test-b": 1}
    assert reason in texts(result.cells["cells"], "test-a")
    assert canary.read_text() == "secret"


def test_magics_shell_commands_and_await_work(grade):
    source = notebook(
        cell("%matplotlib inline\nwords = !echo one two\nimport asyncio\n"
        "await asyncio.sleep(0)", "solution", "a"),
        cell("assert words == ['one two']", "test", "test-a", 1),
    )
    assert grade(source)[0] == {"test-a": 1}


def test_a_cell_with_the_tag_same_process_runs_with_the_student(grade):
    source = function_task("assert f.__code__.co_argcount == 1\n0.5")
    source.cells[-1].metadata["tags"] = ["same-process"]
    assert grade(source)[0] == {"test-f": 0.5}


def test_a_written_answer_waits_for_a_person(grade):
    source = notebook(cell("Because.", "written", "why", 2))
    assert grade(source)[0] == {"why": None}


def test_a_check_of_coursekit_reports_and_is_recorded(executor):
    import nbformat

    root = Path(__file__).parents[1]
    source = nbformat.read(root / "solutions/equivariance/equivariance.ipynb", as_version=4)
    result = executor.run(job(source, limits=QUICK.__class__()))
    scores = [score for score in result.scores.values() if score.points is not None]
    assert all(score.points == score.maximum and score.record for score in scores) and len(scores) == 5
    assert result.findings == ()


def test_a_check_names_the_misconception_through_the_split(executor):
    import nbformat

    root = Path(__file__).parents[1]
    source = nbformat.read(root / "solutions/equivariance/equivariance.ipynb", as_version=4)
    wrong = nbformat.from_dict(source)
    for one in wrong.cells:
        one.source = one.source.replace("(before == after)", "(before != after)")
    score = executor.run(job(source, wrong)).scores["test-unchanged-share"]
    assert score.points == 0 and score.record["misconceptions"] == ["changed-counted"]


def test_a_check_notices_a_shortcut_through_the_split(executor):
    source = notebook(
        cell("from coursekit import checks, conv", "locked", "setup"),
        cell("def conv2d_forward(x, w, b=None, **o):\n"
        "    return conv.conv2d_forward(x, w, b, **o)[0]", "solution", "c"),
        cell("checks.conv.conv2d_forward(conv2d_forward)", "test", "test-c", 9),
    )
    score = executor.run(job(source)).scores["test-c"]
    assert score.points == 0 and score.record["shortcut"] == "coursekit.conv.conv2d_forward"


# ---- What costs only its own question


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os._exit(3)", "exit"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("\n    while True:\n        pass", "did not finish within 2 s"),
        ("\n    while True:\n        print('x' * 1000)", "did not finish within 2 s"),
        ("\n    kept = []\n    while True:\n        kept.append(bytearray(2**28))", ""),
        ("\n    import sys\n    sys.setrecursionlimit(10**9)\n"
        "    return (lambda g: g(g))(lambda g: g(g))", ""),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
    ids=["exit", "segfault", "loop", "flood", "memory", "recursion", "sys-exit", "interrupt"],
)  # fmt: skip
def test_a_function_that_ends_badly_costs_one_question(grade, body, reason):
    points, result = grade(SQUARES, {"total": f"def total(n): {body}"})
    assert points == {"test-squares": 2, "test-total": 0}
    assert reason in texts(result.cells["cells"], "test-total")


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("for _ in range(f(1)): pass", "did not finish within 4 s"),
        ("[0] * f(1)", "MemoryError"),
        ("bytes(f(1))", "MemoryError"),
    ],
)
def test_a_result_that_would_drown_a_test_costs_one_question(grade, test, reason):
    source = notebook(*function_task(test).cells, cell("assert f(0) is not None", "test", "test-more", 1))
    points, result = grade(source, {"f": "def f(x):\n    return 10**12"})
    assert points == {"test-f": 0, "test-more": 1}
    assert reason in texts(result.cells["cells"], "test-f")


@pytest.mark.parametrize(
    "body",
    ["import os; os._exit(3)", "import ctypes; ctypes.string_at(0)", "while True: pass", "1 / 0", "def f(:"],
)
def test_a_cell_that_ends_badly_costs_one_question(grade, body):
    points, _ = grade(SQUARES, {"total": body})
    assert points == {"test-squares": 2, "test-total": 0}


def test_a_flood_of_output_is_cut(grade):
    _, result = grade(SQUARES, {"total": "print('x' * 10**8)\ndef total(n):\n    return sum(squares(n))"})
    text = texts(result.cells["cells"], "total")
    assert len(text) < 2 * QUICK.output_bytes and "was cut off" in text


def test_a_crash_in_one_case_of_a_check_keeps_the_others(executor):
    import nbformat

    root = Path(__file__).parents[1]
    source = nbformat.read(root / "solutions/equivariance/equivariance.ipynb", as_version=4)
    broken = nbformat.from_dict(source)
    for one in broken.cells:
        one.source = one.source.replace(
            "turns = frequency * stride", "import os\n    if stride == 5: os._exit(1)\n"
            "    turns = frequency * stride"
        )
    score = executor.run(job(source, broken)).scores["test-apparent-frequency"]
    assert score.points == 2 and score.maximum == 3


def test_the_time_of_a_whole_notebook_is_limited(grade):
    limits = QUICK.__class__(call_seconds=1, cell_seconds=2, notebook_seconds=3)
    answers = {"squares": "while True: pass", "total": "while True: pass"}
    began = time.monotonic()
    points, result = grade(SQUARES, answers, limits=limits)
    assert time.monotonic() - began < 8
    assert points == {"test-squares": 0, "test-total": 0}
    assert [finding.kind for finding in result.findings if finding.review] == ["out-of-time"]


# ---- What earns nothing

ALWAYS = (
    "class Yes:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
    "    def __lt__(self, other): return True\n    def __gt__(self, other): return True\n"
    "    def __le__(self, other): return True\n    def __ge__(self, other): return True\n"
    "    def __sub__(self, other): return 0.0\n    def __rsub__(self, other): return 0.0\n"
    "    def __abs__(self): return 0.0\n    def __contains__(self, x): return True\n"
    "    def __float__(self): return 9.0\n    def __bool__(self): return True\n"
    "def f(x):\n    return Yes()"
)
CHEATS = {
    "always-equal": ALWAYS,
    "patched-numpy": "import numpy as np\nnp.allclose = lambda *a, **k: True\ndef f(x):\n    return 0",
    "shadowed-builtins": "abs = lambda x: 0\nall = lambda x: True\nlen = lambda x: 2\n"
        "isinstance = lambda *a: True\n"
    "def f(x):\n    return 0",
    "patched-builtins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = Exception\n"
    "def f(x):\n    return 0",
    "other-numpy": "class np:\n    allclose = staticmethod(lambda *a: True)\ndef f(x):\n    return 0",
    "frames": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        if 'expected' in frame.f_locals: return frame.f_locals['expected']\n"
    "        if 'expected' in frame.f_globals: return frame.f_globals['expected']\n"
        "        frame = frame.f_back",
    "memory": "import gc\ndef f(x):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, dict) and 'expected' in o: return o['expected']",
    "subclassed-float": "class F(float):\n    __eq__ = lambda s, o: True\n    __sub__ = lambda s, o: 0.0\n"
    "    __hash__ = float.__hash__\ndef f(x):\n    return F(1)",
    "subclassed-array": "import numpy as np\nclass A(np.ndarray):\n    __eq__ = lambda s, o: np.array(True)\n"
    "    __sub__ = lambda s, o: np.zeros(2)\ndef f(x):\n    return np.zeros(2).view(A)",
    "answers-in-globals": "expected = 0\ndef f(x):\n    return 0",
    "forged-reply": "import os, json, struct\ndef f(x):\n"
        "    text = json.dumps([{'value': 9, 'changed': []}, []]).encode()\n"
    "    for d in range(3, 20):\n        try: os.write(d, struct.pack('!IQ', len(text), 0) + text)\n"
    "        except OSError: pass\n    return 0",
    "garbage-reply": "import os\ndef f(x):\n    for d in range(3, 20):\n"
        "        try: os.write(d, b'x' * 100)\n"
    "        except OSError: pass\n    return 0",
    "patched-agent": "from coursekit.grading.execution import student\n"
    "student.Agent._node = lambda self, encoder, value, inputs=None: ['dict', []]\ndef f(x):\n    return 0",
    "exception": "def f(x):\n    raise SystemExit(0)",
    "nothing": "def f(x):\n    pass",
    "not-a-function": "f = 9",
    "deleted": "",
    "cyclic": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "deep": "def f(x):\n    a = 9\n    for _ in range(100000):\n        a = [a]\n    return a",
    "huge": "import numpy as np\ndef f(x):\n    return np.broadcast_to(np.zeros(1), (2**31,))",
    "bad-repr": "class Bad:\n    def __repr__(self): raise ValueError\n    __str__ = __repr__\n"
    "    def __getattribute__(self, name): raise RuntimeError\ndef f(x):\n    return Bad()",
    "bad-exception": "class E(Exception):\n    def __str__(self): raise ValueError\n"
        "    args = property(lambda s: 1/0)\n"
    "def f(x):\n    raise E()",
    "metaclass": "class M(type):\n    def __instancecheck__(c, o): return True\n"
        "    def __eq__(c, o): return True\n"
    "    __hash__ = type.__hash__\nclass C(metaclass=M): pass\ndef f(x):\n    return C",
}  # fmt: skip
TESTS = {
    "equality": "expected = 9\nassert f(3) == expected",
    "reflected": "expected = 9\nassert expected == f(3)",
    "closeness": "expected = 9\nassert np.allclose(f(3), expected)",
    "difference": "expected = 9\nassert abs(f(3) - expected) < 1e-6 and isinstance(f(3), (int, float))",
    "length": "expected = [9]\nassert len([f(3)]) == 1 and all(a == b for a, b in zip([f(3)], expected))",
    "membership": "expected = {9}\nassert f(3) in expected",
}


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("cheat", sorted(CHEATS.keys() - {"forged-reply"}))  # its reply is right in these
def test_a_cheat_earns_nothing(grade, cheat, test):
    points, result = grade(function_task(TESTS[test]), {"f": CHEATS[cheat]})
    assert points == {"test-f": 0}


def test_a_forged_reply_is_only_a_value(grade):
    points, _ = grade(function_task("assert f(3) == 10"), {"f": CHEATS["forged-reply"]})
    assert points == {"test-f": 0}


SECRETS = {
    "check-file": "import coursekit, pathlib\n"
        "found = (pathlib.Path(coursekit.__file__).parent / 'checks/conv.py').read_text()",
    "solutions": "import coursekit, pathlib\n"
        "found = list((pathlib.Path(coursekit.__file__).parents[2] / 'solutions').iterdir())",
    "environment": "import os\nfound = [v for k, v in os.environ.items() if 'SEED' in k or 'SECRET' in k][0]",
}


@pytest.mark.skipif(sys.platform != "linux", reason="files are guarded by Landlock")
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_out_of_reach(grade, secret):
    source = notebook(
        cell("found = None", "solution", "a"), cell("assert found is None", "test", "test-a", 1)
    )
    points, result = grade(source, {"a": f"found = None\n{SECRETS[secret]}"}, seed="secret")
    assert points == {"test-a": 1}, texts(result.cells["cells"], "a")
    assert "Error" in texts(result.cells["cells"], "a")


def test_the_reference_is_not_in_the_students_process(grade):
    source = notebook(
        cell("found = None", "solution", "a"),
        cell("assert callable(found) and found(1) is None", "test", "test-a", 1),
    )
    stolen = "from coursekit.checks import conv\nfound = conv._conv2d_forward"
    assert grade(source, {"a": stolen})[0] == {"test-a": 1}
