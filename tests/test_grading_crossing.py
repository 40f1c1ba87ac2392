"""Two processes that behave like one: only for honest work, and what a student shares decides nothing."""

from __future__ import annotations

import sys

import pytest
from grading_notebooks import answered, cell, job, notebook, texts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hand-ins run on Linux")


@pytest.fixture(scope="module")
def executor():
    from coursekit.grading.execution.executor import Executor

    with Executor(["numpy", "torch", "matplotlib"]) as running:
        yield running


@pytest.fixture
def grade(executor):
    """Points of one test, and what its outputs say, of a hand-in with another text as its answer."""

    def run(solution, test, answer=None, locked="import numpy as np", **options):
        source = notebook(
            cell(locked, "locked", "given"), cell(solution, "solution", "f"), cell(test, "test", "test-f", 1)
        )
        handed_in = answered(source, {"f": solution if answer is None else answer})
        result = executor.run(job(source, handed_in, **options))
        return result.scores["test-f"].points, texts(result.cells["cells"], "test-f")

    return run


# ---- What a student shares


def test_the_instructors_data_is_not_the_students_to_change(grade):
    solution = "def f(x):\n    return data[x]"
    cheat = "def f(x):\n    data[:] = [0, 0]\n    return 0"
    test = "assert [f(0), f(1)] == data and data == [3, 4]"
    assert grade(solution, test, locked="data = [3, 4]")[0] == 1
    assert grade(solution, test, cheat, locked="data = [3, 4]")[0] == 0


def test_data_that_the_solution_changes_itself_is_the_students(grade):
    solution = "def f(x):\n    data.append(x)"
    assert grade(solution, "f(1)\nassert data == [1]", locked="data = []")[0] == 1
    assert grade(solution, "f(1)\nassert data == [1]", "def f(x): pass", locked="data = []")[0] == 0


FORGED = """
from coursekit.grading.execution import student
honest = student.Agent._changes
student.Agent._changes = lambda self, encoder: {**honest(self, encoder), **FORGERY}
def f(x):
    return 0
"""


@pytest.mark.parametrize(
    "forgery",
    [
        "{'rebound': {'expected': 0, 'abs': 0, 'np': 0, 'len': 0}}",
        "{'unbound': ['expected', 'np']}",
        "{'changed': [[-1, ['list', [0]]]]}",
        "{'changed': [[-77, ['list', []]]]}",
        "{'changed': 'nonsense'}",
        "{'rebound': {'expected': ['pair', -5]}}",
        "{'shown': [{'output_type': 'execute_result', 'data': {'text/plain': '1'}}]}",
    ],
)
def test_forged_changes_earn_nothing(grade, forgery):
    test = "expected = [9]\nassert [f(3)] == expected and np.allclose(f(3), 9)"
    assert grade("def f(x):\n    return 3 * x", test, FORGED.replace("FORGERY", forgery))[0] == 0


CLAIMS = {
    "named tuple": "from typing import NamedTuple\nclass C(NamedTuple):\n    x: int = 0\n"
    "    def __eq__(self, other): return True",
    "text": "class C(str):\n    __hash__ = str.__hash__\n    def __eq__(self, other): return True",
    "list": "class C(list):\n    def __eq__(self, other): return True\n"
    "    def __contains__(self, x): return True",
    "number": "class C(float):\n    __hash__ = float.__hash__\n    def __eq__(self, other): return True",
    "enumeration": "from enum import Enum\nclass E(Enum):\n    A = 0\n"
    "    def __eq__(self, other): return True\n"
    "    __hash__ = object.__hash__\nC = lambda: E.A",
    "dictionary": "class C(dict):\n    def __eq__(self, other): return True",
    "given class": "Card.__eq__ = lambda self, other: True\nC = lambda: Card(0)",
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("expected", ["(9,)", "'nine'", "[9]", "9", "{9: 9}", "Card(9)"])
def test_an_object_that_equals_everything_equals_nothing(grade, claim, expected):
    locked = "from dataclasses import dataclass\n\n@dataclass\nclass Card:\n    rank: int"
    answer = f"{claim}\ndef f():\n    return C()"
    test = f"expected = {expected}\nassert f() == expected"
    assert grade(f"def f():\n    return {expected}", test, locked=locked)[0] == 1
    assert grade(f"def f():\n    return {expected}", test, answer, locked=locked)[0] == 0


# ---- Modules and programs


def test_a_module_of_the_students_runs_where_the_student_runs(grade):
    module = "import os\ntwo = lambda: 2\nseed = lambda: os.environ.get('COURSEKIT_CHECK_SEED')"
    answer = f"from pathlib import Path\nPath('helper.py').write_text({module!r})"
    test = "import helper\nfrom helper import two\nassert two() == 2 and helper.seed() is None"
    assert grade(answer, test, seed="secret")[0] == 1


def test_a_module_of_the_instructors_serves_the_tests(grade):
    files = {"verify.py": b"def verify(f):\n    assert f(3) == 9, 'not nine'\n"}
    cheat = "import verify\nverify.verify = lambda f: None\ndef f(x):\n    return 0"
    test = "import verify\nverify.verify(f)"
    right = "def f(x):\n    return x * x"
    assert grade(right, test, files=files, given=("verify.py",))[0] == 1
    points, said = grade(right, test, cheat, files=files, given=("verify.py",))
    assert points == 0 and "not nine" in said


def test_a_file_of_the_students_shadows_no_module_of_the_tests(grade):
    answer = "open('fractions.py', 'w').write('Fraction = lambda *a: 0')\ndef f():\n    return 0"
    test = "from fractions import Fraction\nassert f() == Fraction(1)"
    assert grade("def f():\n    return 1", test, answer)[0] == 0


@pytest.mark.parametrize(
    "start", ["os.system('true')", "subprocess.run(['true'])", "os.execv('/bin/true', ['x'])"]
)
def test_a_test_starts_no_program(grade, start):
    points, said = grade("def f(): pass", f"import os, subprocess\nf()\n{start}")
    assert points == 0 and "needs the tag same-process" in said


def test_a_shell_command_of_a_test_runs_where_the_student_runs(grade):
    test = "seed = !echo seed $COURSEKIT_CHECK_SEED\nassert seed == ['seed']"
    assert grade("x = 1", test, seed="secret")[0] == 1


# ---- Input


def test_input_without_a_test_that_gives_any_is_an_error(grade):
    points, said = grade("def f():\n    return input('?')", "f()")
    assert points == 0 and "StdinNotImplementedError" in said


def test_what_a_test_keeps_to_itself_is_not_in_the_students_namespace(grade):
    peek = "expected = 0\ndef f(x):\n    return globals().get('expected')"
    assert grade("def f(x):\n    return x * x", "expected = 9\nassert f(3) == expected", peek)[0] == 0


# ---- What costs a clear message


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("class D(C): pass", "D derives from a class of the student's: give the cell the tag same-process"),
        ("class Own:\n    pass\nf(Own())", "an object of the test's own class Own cannot be handed"),
        ("import threading\nf(threading.Lock())", "cannot be handed to the student's process"),
    ],
)
def test_what_two_processes_cannot_do_says_so(grade, test, reason):
    points, said = grade("class C: pass\ndef f(x): pass", test)
    assert points == 0 and reason in said


# ---- Large values


def test_a_large_array_is_a_copy_that_still_comes_back_changed(grade):
    solution = "def f(a):\n    a += 1\n    return a"
    test = "a = np.zeros(10**6)\nb = f(a)\nassert b is a and a.sum() == 10**6"
    assert grade(solution, test)[0] == 1


def test_what_a_call_back_costs_torch_is_not_the_students_shortcut(grade):
    solution = """import torch
def train(parameters, gradient_of, batches, lr, momentum, limit):
    return gradient_of(parameters, batches[0])
"""
    test = """
from coursekit.checks.engine.shortcuts import Watch
import numpy as np
watch = getattr(train, "__watch__", Watch)(("torch", "scipy"))
with watch:
    gradient = train({"p": np.ones(2)}, lambda p, batch: {"p": 2 * p["p"]}, [0], 0.1, 0.5, 1.0)
assert gradient["p"].tolist() == [2, 2]
assert watch.used is None, watch.used
"""
    assert grade(solution, test)[0] == 1
    cheat = solution.replace("return", "torch.zeros(2)\n    return")
    points, said = grade(solution, test, cheat)
    assert points == 0 and "torch.zeros" in said
