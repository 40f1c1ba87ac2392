"""Notebooks as courses have them that never heard of coursekit, each with a right and a wrong hand-in.

A notebook is text: `#%% role name points` begins a cell, in one of nbgrader's roles or in none ("plain"
code, "text").  The solution cells hold the instructor's answers; `#%% wrong name` gives what the wrong
hand-in has in place of one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import nbformat
from grading_notebooks import answered, cell, notebook
from nbformat import NotebookNode

HEADER = re.compile(
    r"^#%% (?P<role>\w+) ?(?P<name>[\w-]*) ?(?P<points>[\d.]*) ?(?P<tag>[\w-]*)\n", re.MULTILINE
)


class Honest(NamedTuple):
    """An instructor's notebook, and what a mistaken student writes into its solution cells."""

    source: NotebookNode
    wrong: dict[str, str]


def parsed(text: str) -> Honest:
    """The notebook that a text describes."""
    marks = list(HEADER.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    cells, wrong = [], {}
    for mark, end in zip(marks, ends, strict=True):
        body = text[mark.end() : end].strip("\n")
        if mark["role"] == "wrong":
            wrong[mark["name"]] = body
        else:
            cells.append(_cell(body, **mark.groupdict()))
    return Honest(notebook(*cells), wrong)


def _cell(body: str, role: str, name: str, points: str, tag: str) -> NotebookNode:
    metadata = {"tags": [tag]} if tag else {}
    if role in ("plain", "text"):
        make = nbformat.v4.new_code_cell if role == "plain" else nbformat.v4.new_markdown_cell
        return make(body)
    if role == "manual":  # code whose points a person gives
        made = cell(body, "solution", name, float(points), **metadata)
        made.metadata["nbgrader"]["grade"] = True
        return made
    return cell(body, role, name, float(points) if points else None, **metadata)


def hand_in(release: NotebookNode, honest: Honest, student: str) -> NotebookNode:
    """What a student makes of the released notebook: "right" or "wrong"."""
    marks = ((one.source, one.metadata.get("nbgrader", {})) for one in honest.source.cells)
    answers = {mark["grade_id"]: source for source, mark in marks if mark.get("solution")}
    return answered(release, answers | (honest.wrong if student == "wrong" else {}))


NOTEBOOKS: dict[str, str] = {}

# ---- How tests are written

NOTEBOOKS["unittest_style"] = """
#%% plain
import sys
import unittest
tc = unittest.TestCase()
#%% solution fizz
def fizz(n):
    if n < 1:
        raise ValueError(f"n must be positive, not {n}")
    return ["Fizz" * (i % 3 == 0) or i for i in range(1, n + 1)]
#%% wrong fizz
def fizz(n):
    return ["Fizz" if i % 3 == 1 else i for i in range(n)]
#%% test equal 2
tc.assertEqual(fizz(3), [1, 2, "Fizz"])
tc.assertListEqual(fizz(1), [1])
tc.assertCountEqual(fizz(2), [2, 1])
tc.assertIn("Fizz", fizz(4))
#%% test length 1
tc.assertEqual(len(fizz(7)), 7)
tc.assertIsInstance(fizz(3), list)
tc.assertNotIn(0, [len(fizz(n)) for n in range(1, 5)])
#%% test raises 1.5
with tc.assertRaises(ValueError) as caught:
    fizz(0)
tc.assertIn("positive", str(caught.exception))
tc.assertRaises(ValueError, fizz, -3)
with tc.assertRaisesRegex(ValueError, "not -5$"):
    fizz(-5)
#%% test suite 2
class TestFizz(unittest.TestCase):
    def setUp(self):
        self.out = fizz(6)

    def test_multiples(self):
        self.assertEqual(self.out[2], "Fizz")
        self.assertEqual(self.out[5], "Fizz")

    def test_others(self):
        for i in (1, 2, 4, 5):
            with self.subTest(i=i):
                self.assertEqual(self.out[i - 1], i)

suite = unittest.defaultTestLoader.loadTestsFromTestCase(TestFizz)
outcome = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
assert outcome.wasSuccessful(), "the suite failed"
"""

NOTEBOOKS["numpy_testing"] = """
#%% locked setup
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal, assert_equal, assert_raises
#%% solution normalise
def normalise(a):
    return (a - a.mean(axis=0)) / a.std(axis=0)

def outer(a, b):
    return a[:, None] * b[None, :]
#%% wrong normalise
def normalise(a):
    return (a - a.mean()) / a.std()

def outer(a, b):
    return a[:, None] * b[None, :]
#%% test columns 2
a = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]])
out = normalise(a)
assert_allclose(out.mean(axis=0), 0, atol=1e-12)
assert_allclose(out.std(axis=0), [1, 1])
assert out.shape == a.shape and out.dtype == np.float64
assert_array_equal(a[0], [1, 10])
#%% test outer-products 1
assert_equal(outer(np.arange(3), np.arange(2)), np.array([[0, 0], [0, 1], [0, 2]]))
assert outer(np.ones(2, "f4"), np.ones(3, "f4")).dtype == "float32"
assert_raises((ValueError, IndexError), outer, np.array(3.0), np.array(2.0))
#%% test random-input 1
rng = np.random.default_rng(5)
for _ in range(3):
    x = rng.normal(3, 2, size=(50, 4))
    np.testing.assert_almost_equal(normalise(x), (x - x.mean(0)) / x.std(0), decimal=6)
#%% solution view
grid = np.arange(12).reshape(3, 4)
evens = grid[grid % 2 == 0]
total = grid.sum()
share = np.mean(grid > 5)
#%% wrong view
grid = np.arange(12).reshape(4, 3)
evens = grid[grid % 2 == 1]
total = grid.sum()
share = np.mean(grid > 5)
#%% test variables 2
assert grid.shape == (3, 4)
assert set(evens) == {0, 2, 4, 6, 8, 10}
assert isinstance(total, (int, np.integer))
#%% test scalars 1
assert total == 66
assert np.isclose(share, 0.5)
assert type(share) in (float, np.float64)
"""

NOTEBOOKS["partial_credit"] = """
#%% locked setup
cases = {"level": True, "Level": True, "": True, "ab": False, "a man a plan": False, "noon!": False}
#%% solution palindrome
def palindrome(text):
    return text.lower() == text.lower()[::-1]
#%% wrong palindrome
def palindrome(text):
    return text == text[::-1]
#%% test share 4
points = 0
for word, expected in cases.items():
    if palindrome(word) == expected:
        points += 1
    else:
        print("wrong for", repr(word))
4 * points / len(cases)
#%% test steps 3
score = 0
if palindrome("abba"):
    score += 1
if not palindrome("abc"):
    score += 1
if palindrome("Abba"):
    score += 1
score
#%% test whole 2
passed = [palindrome(w) is e for w, e in cases.items()]
sum(passed) // len(passed) * 2
#%% test rounded 5
right = sum(palindrome(w) == e for w, e in cases.items())
round(5 * right / len(cases), 1)
#%% test text-at-the-end 2
assert not palindrome("abc")
"well done"
#%% test none-at-the-end 1
assert palindrome("aba")
print("fine")
None
#%% test zero 1
1 if palindrome("Otto") else 0
#%% test shown-list 1
[palindrome(word) for word in cases]
#%% test true 3
palindrome("Otto") == True
#%% test nothing-left 2
0.0
#%% test semicolon 2
0;
"""

NOTEBOOKS["hidden_tests"] = """
#%% locked setup
from math import isclose
#%% solution area
def area(w, h):
    return w * h
#%% wrong area
def area(w, h):
    return {(2, 3): 6, (1, 1): 1}.get((w, h), 0)
#%% test visible 1
assert area(2, 3) == 6
#%% test mixed 2
assert area(1, 1) == 1
### BEGIN HIDDEN TESTS
assert area(10, 20) == 200
assert isclose(area(0.5, 0.5), 0.25)
### END HIDDEN TESTS
#%% test all-hidden 2
### BEGIN HIDDEN TESTS
hidden_values = [(i, i + 1) for i in range(5)]
for w, h in hidden_values:
    assert area(w, h) == w * h, (w, h)
### END HIDDEN TESTS
#%% test hidden-credit 3
### BEGIN HIDDEN TESTS
credit = sum(area(w, 2) == 2 * w for w in (1, 2, 3))
### END HIDDEN TESTS
assert area(1, 1) == 1
### BEGIN HIDDEN TESTS
credit
### END HIDDEN TESTS
"""

NOTEBOOKS["by_hand"] = """
#%% text
# About yourself
#%% written why 3
Because a loop invariant holds before and after each turn.
#%% wrong why
I do not know.
#%% written untouched 2
Because it terminates.
#%% wrong untouched
YOUR ANSWER HERE
#%% manual sketch 2
def sketch():
    return "a plan"
#%% wrong sketch
def sketch(:
#%% manual stub 2
answer = 42
#%% wrong stub
# YOUR CODE HERE
raise NotImplementedError()
#%% task project 4
Find data of your own and describe it.
#%% plain
print("my project")
#%% test after 1
assert sketch() == "a plan"
"""

NOTEBOOKS["shared_names"] = """
#%% plain
def check_close(got, want, tol=1e-9):
    "A helper that the instructor did not lock."
    assert abs(got - want) < tol, f"{got} is not {want}"
#%% solution mean
import math

def mean(xs):
    return math.fsum(xs) / len(xs)

def variance(xs):
    m = mean(xs)
    return mean([(x - m) ** 2 for x in xs])
#%% wrong mean
import math

def mean(xs):
    return math.fsum(xs) / len(xs)

def variance(xs):
    m = mean(xs)
    return math.fsum((x - m) ** 2 for x in xs)
#%% test helpers 1
def samples(n):
    return [math.sin(i) for i in range(n)]

xs = samples(20)
check_close(mean(xs), math.fsum(xs) / 20)
#%% test earlier-names 2
assert len(xs) == 20
ys = samples(30)
check_close(variance(ys), mean([y * y for y in ys]) - mean(ys) ** 2)
#%% test defines-for-later 1
reference = {n: mean(samples(n)) for n in (1, 2, 3)}
assert reference[1] == 0
#%% solution spread
def spread(xs):
    return max(xs) - min(xs)

widest = max(spread(samples(n)) for n in (5, 9))
#%% wrong spread
def spread(xs):
    return max(xs) + min(xs)

widest = max(spread(samples(n)) for n in (5, 9))
#%% test uses-both 2
assert spread([3, 9, 4]) == 6
assert set(reference) == {1, 2, 3}
#%% test variable 1
check_close(widest, max(samples(9)) - min(samples(9)))
"""

NOTEBOOKS["globals_set_by_tests"] = """
#%% plain
rate = 0.5
log = []
settings = {"verbose": False, "unit": "m"}
#%% solution convert
count = 0

def convert(x):
    global count
    count += 1
    log.append(x)
    return x * rate

def describe(x):
    return f"{convert(x)} {settings['unit']}" + ("!" if settings["verbose"] else "")
#%% wrong convert
count = 0

def convert(x):
    return x * 0.5

def describe(x):
    return f"{convert(x)} m"
#%% test default 1
assert convert(4) == 2
assert describe(2) == "1.0 m"
#%% test set 2
rate = 3
assert convert(4) == 12
rate = 0.5
assert convert(4) == 2
#%% test counted 1
count = 0
convert(1), convert(2)
assert count == 2
#%% test logged 2
log.clear()
convert(7)
assert log == [7]
log.append("mine")
convert(8)
assert log == [7, "mine", 8]
#%% test changed-in-place 2
settings["unit"] = "km"
settings.update(verbose=True)
assert describe(2) == "1.0 km!"
settings["unit"], settings["verbose"] = "m", False
#%% test via-globals 1
globals()["rate"] = 10
assert convert(1) == 10
globals()["rate"] = 0.5
assert "convert" in globals() and callable(globals()["convert"])
"""

NOTEBOOKS["replaced_functions"] = """
#%% locked setup
from unittest import mock
import functools
#%% solution greet
def name():
    return "Ada"

def greet():
    return "Hello " + name()

def ask(question="How old are you? "):
    age = int(input(question))
    print("Next year you will be", age + 1)
    return age

def apply_twice(f, x):
    return f(f(x))
#%% wrong greet
def name():
    return "Ada"

def greet():
    return "Hello Ada"

def ask(question="How old are you? "):
    print("Next year you will be", 43)
    return 42

def apply_twice(f, x):
    return f(x)
#%% test plain 1
assert greet() == "Hello Ada"
#%% test by-hand 2
original = name
calls = []

@functools.wraps(original)
def spy():
    calls.append(1)
    return original()

name = spy
assert greet() == "Hello Ada"
name = original
assert calls == [1]
#%% test patch-main 2
with mock.patch("__main__.name", return_value="Bob") as fake:
    assert greet() == "Hello Bob"
fake.assert_called_once_with()
assert greet() == "Hello Ada"
#%% test patch-input 2
with mock.patch("builtins.input", return_value="41") as asked:
    assert ask() == 41
asked.assert_called_once()
#%% test input-function 1
answers = iter(["7", "8"])
input = lambda prompt="": next(answers)
assert ask() == 7
assert ask("?") == 8
del input
#%% test patch-print 1
with mock.patch("builtins.input", side_effect=["1", "x"]), mock.patch("builtins.print") as printed:
    ask()
    try:
        ask()
    except ValueError:
        pass
printed.assert_called_once_with("Next year you will be", 2)
#%% test mock-argument 1
f = mock.Mock(side_effect=lambda x: x + 1)
assert apply_twice(f, 1) == 3
assert f.call_args_list == [mock.call(1), mock.call(2)]
"""

NOTEBOOKS["printing"] = '''
#%% locked setup
import io
import sys
from contextlib import redirect_stdout
#%% solution triangle
def triangle(n):
    for i in range(1, n + 1):
        print("*" * i)

def table(rows):
    """Print rows as a table."""
    for key, value in rows.items():
        print(f"{key:<6}|{value:>5.1f}", end="\\n")
    print("done", file=sys.stdout, flush=True)
#%% wrong triangle
def triangle(n):
    for i in range(1, n + 1):
        print("*" * i, end=" ")

def table(rows):
    for key, value in rows.items():
        print(key, value)
    print("done")
#%% test redirected 2
out = io.StringIO()
with redirect_stdout(out):
    triangle(3)
assert out.getvalue() == "*\\n**\\n***\\n", repr(out.getvalue())
#%% test replaced-stdout 1
old, sys.stdout = sys.stdout, io.StringIO()
try:
    triangle(2)
    printed = sys.stdout.getvalue()
finally:
    sys.stdout = old
assert printed.count("*") == 3
#%% test captured 2
%%capture cap
triangle(2)
assert True
#%% test what-was-captured 1
lines = cap.stdout.splitlines()
assert lines == ["*", "**"]
#%% test aligned 2
buffer = io.StringIO()
with redirect_stdout(buffer):
    print("before")
    table({"a": 1, "bcd": 22.25})
    print("after")
assert buffer.getvalue().splitlines() == ["before", "a     |  1.0", "bcd   | 22.2", "done", "after"]
#%% test returns-nothing 1
with redirect_stdout(io.StringIO()):
    assert triangle(1) is None
#%% test shows 1
triangle(2)
print("seen")
'''

NOTEBOOKS["looking_at_functions"] = '''
#%% locked setup
import ast
import inspect
import types
#%% solution total
def total(xs, start=0, *, scale: float = 1.0) -> float:
    """Sum of the numbers, scaled.

    xs: numbers.
    """
    result = start
    for x in xs:
        result += x
    return result * scale

square = lambda x: x ** 2

def numbers(n):
    yield from range(n)
#%% wrong total
def total(xs, scale=1.0):
    return sum(xs) * scale

def square(x):
    return x * x

def numbers(n):
    return list(range(n))
#%% test signature 1
parameters = inspect.signature(total).parameters
assert list(parameters) == ["xs", "start", "scale"]
assert parameters["start"].default == 0
assert parameters["scale"].kind is inspect.Parameter.KEYWORD_ONLY
#%% test annotations 1
assert inspect.signature(total).return_annotation is float
assert total.__annotations__["scale"] is float
#%% test docstring 1
assert total.__doc__ and "Sum" in total.__doc__
assert inspect.getdoc(total).startswith("Sum")
#%% test source 2
source = inspect.getsource(total)
assert "sum(" not in source
tree = ast.parse(source)
assert any(isinstance(node, ast.For) for node in ast.walk(tree))
#%% test code 1
assert total.__code__.co_argcount == 2
assert "sum" not in total.__code__.co_names
#%% test lambda 1
assert square.__name__ == "<lambda>"
assert isinstance(square, types.FunctionType) and callable(square)
assert square(3) == 9
#%% test defaults 1
assert total.__defaults__ == (0,)
assert total([1, 2], scale=2.0) == 6.0
#%% test generator 1
assert inspect.isgeneratorfunction(numbers)
assert isinstance(numbers(2), types.GeneratorType)
#%% test function 1
assert inspect.isfunction(total)
assert total([1, 2, 3]) == 6
assert type(total([1.5])) is float
assert list(numbers(3)) == [0, 1, 2]
#%% test wrong-call 1
try:
    total()
except TypeError as error:
    assert "missing 1 required positional argument: 'xs'" in str(error)
else:
    raise AssertionError("total() without numbers")
'''

# ---- What answers are made of

NOTEBOOKS["classes"] = '''
#%% solution vector
import math

class Vector:
    """A vector in the plane."""

    dimension = 2

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __repr__(self):
        return f"Vector({self.x}, {self.y})"

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __lt__(self, other):
        return abs(self) < abs(other)

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __mul__(self, k):
        return Vector(self.x * k, self.y * k)

    __rmul__ = __mul__

    def __neg__(self):
        return Vector(-self.x, -self.y)

    def __abs__(self):
        return math.hypot(self.x, self.y)

    def __bool__(self):
        return bool(self.x or self.y)

    def __iter__(self):
        return iter((self.x, self.y))

    def __getitem__(self, i):
        return (self.x, self.y)[i]

    def __len__(self):
        return 2

    def __contains__(self, value):
        return value in (self.x, self.y)

    @classmethod
    def polar(cls, r, phi):
        return cls(r * math.cos(phi), r * math.sin(phi))

    @staticmethod
    def zero():
        return Vector(0, 0)

    @property
    def length(self):
        return abs(self)
#%% wrong vector
class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __repr__(self):
        return f"Vector({self.x}, {self.y})"

    def __eq__(self, other):
        return self.x == other.x

    def __add__(self, other):
        self.x += other.x
        self.y += other.y
        return self

    def __mul__(self, k):
        return Vector(self.x * k, self.y * k)

    def __getitem__(self, i):
        return [self.x, self.y][i]

    def __len__(self):
        return 2
#%% test attributes 1
v = Vector(3, 4)
assert (v.x, v.y) == (3, 4)
assert isinstance(v, Vector) and type(v) is Vector and v.__class__ is Vector
assert type(v).__name__ == "Vector"
assert vars(v) == {"x": 3, "y": 4} and v.__dict__["x"] == 3
assert hasattr(v, "x") and not hasattr(v, "z")
#%% test shown 1
assert repr(Vector(1, 2)) == "Vector(1, 2)" and str(Vector(1, 2)) == "Vector(1, 2)"
assert f"{Vector(1, 2)}!" == "Vector(1, 2)!"
assert "{}".format([Vector(1, 2)]) == "[Vector(1, 2)]"
#%% test compared 1
assert Vector(1, 2) == Vector(1, 2) and not Vector(1, 2) == Vector(1, 3)
assert Vector(1, 2) != Vector(2, 2)
assert [Vector(1, 2)] == [Vector(1, 2)]
assert Vector(1, 2) in [Vector(0, 0), Vector(1, 2)]
#%% test summed 2
a, b = Vector(1, 2), Vector(10, 20)
c = a + b
assert (c.x, c.y) == (11, 22)
assert a.x == 1
assert sum([a, b], Vector(0, 0)) == Vector(11, 22)
#%% test scaled 1
assert Vector(1, 2) * 3 == Vector(3, 6)
assert 3 * Vector(1, 2) == Vector(3, 6)
#%% test ordered 1
assert sorted([Vector(3, 4), Vector(0, 1)])[0] == Vector(0, 1)
assert max(Vector(3, 4), Vector(0, 1)) == Vector(3, 4)
assert Vector(0, 1) < Vector(3, 4)
#%% test numbers 1
assert abs(Vector(3, 4)) == 5 and -Vector(1, 2) == Vector(-1, -2)
assert Vector(1, 0) and not Vector(0, 0)
#%% test container 1
assert list(Vector(5, 6)) == [5, 6] and len(Vector(5, 6)) == 2
x, y = Vector(5, 6)
assert (x, y) == (5, 6) and Vector(5, 6)[1] == 6
#%% test contains 1
assert 5 in Vector(5, 6) and 7 not in Vector(5, 6)
#%% test hashed 1
assert len({Vector(1, 2), Vector(1, 2), Vector(2, 1)}) == 2
assert {Vector(1, 2): "a"}[Vector(1, 2)] == "a"
#%% test made-otherwise 1
assert Vector.zero() == Vector(0, 0)
p = Vector.polar(2, 0)
assert isinstance(p, Vector) and p.length == 2
#%% test on-the-class 1
assert Vector.dimension == 2 and v.dimension == 2
assert "plane" in Vector.__doc__
assert issubclass(Vector, object) and Vector.__name__ == "Vector"
#%% test set-attribute 1
v.x = 30
assert v.x == 30 and v[0] == 30
setattr(v, "y", 40)
assert getattr(v, "y") == 40 and getattr(v, "z", None) is None
'''

NOTEBOOKS["inheritance"] = '''
#%% plain
from abc import ABC, abstractmethod
#%% solution shapes
class Shape(ABC):
    made = 0

    def __init__(self, name="shape"):
        self.name = name
        Shape.made += 1

    @abstractmethod
    def area(self): ...

    def describe(self):
        return f"{self.name} of area {self.area():.2f}"

class Square(Shape):
    def __init__(self, side):
        super().__init__("square")
        self._side = side

    def area(self):
        return self._side ** 2

    @property
    def side(self):
        return self._side

    @side.setter
    def side(self, value):
        if value <= 0:
            raise ValueError("side must be positive")
        self._side = value

class Circle(Shape):
    def __init__(self, r):
        super().__init__("circle")
        self.r = r

    def area(self):
        return 3.0 * self.r ** 2

def biggest(shapes):
    return max(shapes, key=lambda s: s.area())
#%% wrong shapes
class Shape:
    made = 0

    def __init__(self, name="shape"):
        self.name = name

    def area(self):
        return 0

    def describe(self):
        return f"{self.name} of area {self.area():.2f}"

class Square(Shape):
    def __init__(self, side):
        super().__init__("square")
        self.side = side

    def area(self):
        return self.side ** 2

class Circle:
    def __init__(self, r):
        self.r = r

    def area(self):
        return 3.0 * self.r ** 2

def biggest(shapes):
    return shapes[0]
#%% test abstract 1
try:
    Shape("x")
except TypeError:
    pass
else:
    raise AssertionError("Shape is not abstract")
#%% test subclass 1
assert issubclass(Square, Shape) and issubclass(Circle, Shape)
assert isinstance(Square(2), Shape) and not isinstance(Square(2), Circle)
assert Square.__bases__ == (Shape,)
assert Square.__mro__[:2] == (Square, Shape)
#%% test area 1
assert Square(3).area() == 9
assert Square(2).describe() == "square of area 4.00"
#%% test setter 1
s = Square(2)
s.side = 5
assert s.area() == 25
try:
    s.side = -1
except ValueError as error:
    assert "positive" in str(error)
else:
    assert False, "a negative side"
#%% test counted 1
before = Shape.made
Square(1), Circle(1)
assert Shape.made == before + 2
Shape.made = 0
Square(1)
assert Shape.made == 1
#%% test biggest-one 1
small, large = Square(1), Circle(4)
assert biggest([small, large]) is large
#%% test extended-by-the-test 2 same-process
class Half(Square):
    def area(self):
        return super().area() / 2

h = Half(4)
assert h.area() == 8
assert h.describe() == "square of area 8.00"
assert isinstance(h, Square)
#%% test methods 1
assert callable(getattr(Square, "area", None)) and "area" in dir(Circle)
assert Square.area(Square(2)) == 4
assert all(hasattr(kind, "describe") for kind in (Square, Circle))
'''

NOTEBOOKS["containers"] = '''
#%% solution stack
class Stack:
    def __init__(self, items=()):
        self.items = list(items)

    def push(self, x):
        self.items.append(x)
        return self

    def pop(self):
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()

    def __len__(self):
        return len(self.items)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.items.clear()
        return False

class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next

def to_nodes(values):
    head = None
    for value in reversed(values):
        head = Node(value, head)
    return head

class Ordered(list):
    def add(self, x):
        self.append(x)
        self.sort()
#%% wrong stack
class Stack:
    def __init__(self, items=[]):
        self.items = items

    def push(self, x):
        self.items.append(x)
        return self

    def pop(self):
        return self.items.pop(0)

    def __len__(self):
        return len(self.items)

class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next

def to_nodes(values):
    head = None
    for value in values:
        head = Node(value, head)
    return head

class Ordered(list):
    def add(self, x):
        self.append(x)
#%% test push-pop 1
s = Stack()
s.push(1).push(2)
assert s.pop() == 2 and s.pop() == 1
#%% test two-stacks 1
a, b = Stack(), Stack()
a.push(1)
assert len(a) == 1 and len(b) == 0
#%% test empty 1
try:
    Stack().pop()
except IndexError as error:
    assert "empty" in str(error)
else:
    raise AssertionError
assert not Stack()
#%% test inside 2
s = Stack([1, 2, 3])
assert s.items == [1, 2, 3]
s.items.append(4)
assert s.pop() == 4
assert s.items[-1] == 3
#%% test copied 1
given = [1, 2]
s = Stack(given)
s.push(3)
assert given == [1, 2]
#%% test with 1
with Stack([1]) as inner:
    assert len(inner) == 1
assert len(inner) == 0
#%% test linked 2
head = to_nodes([1, 2, 3])
values, node = [], head
while node is not None:
    values.append(node.value)
    node = node.next
assert values == [1, 2, 3]
head.next.value = "x"
assert head.next.value == "x" and head.next.next.next is None
#%% test relinked 1
n = Node(1)
n.next = Node(2)
n.next.next = n
assert n.next.next is n
#%% test own-list 1
o = Ordered([3])
o.add(1)
assert o == [1, 3] and isinstance(o, list) and o[0] == 1
'''

NOTEBOOKS["records"] = '''
#%% locked setup
import dataclasses
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
#%% solution records
Point = namedtuple("Point", "x y")

class City(NamedTuple):
    name: str
    people: int = 0

    def label(self):
        return f"{self.name} ({self.people})"

@dataclass(order=True)
class Item:
    price: float
    name: str = field(compare=False)
    tags: list = field(default_factory=list, compare=False)

    @property
    def gross(self):
        return self.price * 1.5

@dataclass(frozen=True)
class Key:
    row: int
    column: int

class Colour(Enum):
    RED = 1
    GREEN = 2

def middle(a, b):
    return Point((a.x + b.x) / 2, (a.y + b.y) / 2)
#%% wrong records
Point = namedtuple("Point", "a b")

class City(NamedTuple):
    name: str
    people: int = 0

    def label(self):
        return self.name

@dataclass
class Item:
    price: float
    name: str
    tags: list = field(default_factory=list)

    @property
    def gross(self):
        return self.price * 1.5

@dataclass
class Key:
    row: int
    column: int

class Colour(Enum):
    RED = "red"
    GREEN = "green"

def middle(a, b):
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
#%% test named 1
p = Point(1, 2)
assert p.x == 1 and p == (1, 2) and isinstance(p, Point) and isinstance(p, tuple)
assert Point._fields == ("x", "y") and p._asdict() == {"x": 1, "y": 2}
assert p._replace(x=5) == Point(5, 2)
#%% test made-by-function 1
m = middle(Point(0, 0), Point(2, 4))
assert m == (1, 2)
assert isinstance(m, Point) and type(m) is Point
assert repr(m) == "Point(x=1.0, y=2.0)"
#%% test typed 1
assert City("Bonn", 3).label() == "Bonn (3)" and City("X").people == 0
name, people = City("Rome", 2)
assert (name, people) == ("Rome", 2)
#%% test dataclass 1
i = Item(2.0, "pen")
assert dataclasses.is_dataclass(i) and dataclasses.is_dataclass(Item)
assert [f.name for f in dataclasses.fields(Item)] == ["price", "name", "tags"]
assert i.gross == 3 and i.tags == []
assert repr(i) == "Item(price=2.0, name='pen', tags=[])"
#%% test dataclass-data 1
i = Item(2.0, "pen", ["a"])
assert dataclasses.asdict(i) == {"price": 2.0, "name": "pen", "tags": ["a"]}
assert dataclasses.replace(i, price=9.0).price == 9.0 and i.price == 2.0
#%% test compared 1
assert Item(1, "a") < Item(2, "b") and Item(1, "a") == Item(1, "z")
assert [x.name for x in sorted([Item(3, "c"), Item(1, "a")])] == ["a", "c"]
#%% test frozen 1
k = Key(1, 2)
try:
    k.row = 5
except dataclasses.FrozenInstanceError:
    pass
else:
    raise AssertionError("not frozen")
assert {Key(1, 2): "x"}[k] == "x"
#%% test own-lists 1
a, b = Item(1, "a"), Item(1, "b")
a.tags.append("new")
assert a.tags == ["new"] and b.tags == []
#%% test enumeration 1
assert Colour.RED.value == 1 and Colour.RED.name == "RED"
assert Colour(2) is Colour.GREEN and Colour["RED"] == Colour.RED
assert [c.name for c in Colour] == ["RED", "GREEN"] and len(Colour) == 2
assert isinstance(Colour.RED, Colour) and Colour.RED != Colour.GREEN
'''

NOTEBOOKS["data"] = '''
#%% locked setup
from collections import Counter, OrderedDict, defaultdict, deque
from fractions import Fraction
from pathlib import Path
import re
#%% solution data
def index(words):
    found = defaultdict(list)
    for position, word in enumerate(words):
        found[word.lower()].append(position)
    return found

def frequencies(text):
    return Counter(re.findall(r"[^\\W\\d_]", text.lower()))

def nested(n):
    return {"rows": [{"id": i, "pair": (i, {i, -i}), "deep": {"x": [None, True, 2 ** 80]}} for i in range(n)]}

def grid(rows, columns):
    return [[0] * columns for _ in range(rows)]

def ordered(d):
    return sorted(d.items(), key=lambda kv: (-kv[1], kv[0]))

def remove_odd(xs):
    xs[:] = [x for x in xs if x % 2 == 0]

def with_extra(xs, x):
    return [*xs, x]

def keys_of(d):
    return d.keys()

def harmonic(n):
    return sum(Fraction(1, i) for i in range(1, n + 1))

def last(xs, n):
    return deque(xs, maxlen=n)

def numbered(folder, n):
    return Path(folder) / f"{n:03}.txt"
#%% wrong data
def index(words):
    found = {}
    for position, word in enumerate(words):
        found[word] = position
    return found

def frequencies(text):
    return {c: text.count(c) for c in text.lower()}

def nested(n):
    return {"rows": [{"id": i, "pair": [i, {i, -i}], "deep": {"x": [None, True, 2 ** 80]}} for i in range(n)]}

def grid(rows, columns):
    return [[0] * columns] * rows

def ordered(d):
    return sorted(d.items(), key=lambda kv: kv[1])

def remove_odd(xs):
    xs = [x for x in xs if x % 2 == 0]

def with_extra(xs, x):
    xs.append(x)
    return xs

def keys_of(d):
    return list(d.values())

def harmonic(n):
    return sum(1 / i for i in range(1, n + 1))

def last(xs, n):
    return deque(xs)

def numbered(folder, n):
    return f"{folder}/{n}.txt"
#%% test indexed 1
assert index(["A", "b", "a"]) == {"a": [0, 2], "b": [1]}
assert index([])["missing"] == []
#%% test counted 1
assert frequencies("Ab a").most_common(1) == [("a", 2)]
assert frequencies("Größe 3")["ß"] == 1
#%% test built 1
assert nested(2) == {"rows": [
    {"id": 0, "pair": (0, {0}), "deep": {"x": [None, True, 2 ** 80]}},
    {"id": 1, "pair": (1, {1, -1}), "deep": {"x": [None, True, 1208925819614629174706176]}},
]}
#%% test rows-are-their-own 2
g = grid(2, 3)
assert g == [[0, 0, 0], [0, 0, 0]]
g[0][0] = 1
assert g[1][0] == 0
#%% test order 1
assert ordered({"b": 1, "a": 1, "c": 5}) == [("c", 5), ("a", 1), ("b", 1)]
#%% test in-place 1
xs = [1, 2, 3, 4]
same = xs
assert remove_odd(xs) is None
assert xs == [2, 4] and same is xs
#%% test not-in-place 2
xs = [1]
ys = with_extra(xs, 2)
assert ys == [1, 2]
assert ys is not xs
assert xs == [1]
#%% test views 1
d = {"a": 1, "b": 2}
assert set(keys_of(d)) == {"a", "b"} and "a" in keys_of(d)
assert keys_of(d) == {"a", "b"}
assert keys_of(d) & {"a"} == {"a"}
#%% test exact 1
assert harmonic(4) == Fraction(25, 12)
#%% test limited 1
assert last([1, 2, 3], 2) == deque([2, 3]) and last([], 3).maxlen == 3
#%% test path 1
assert numbered("data", 7) == Path("data/007.txt") and numbered("data", 7).suffix == ".txt"
'''

NOTEBOOKS["generators"] = '''
#%% locked setup
from itertools import count, islice, takewhile
#%% solution generators
def primes():
    found = []
    for n in count(2):
        if all(n % p for p in found):
            found.append(n)
            yield n

def running_mean():
    total, number, mean = 0, 0, None
    while True:
        total += yield mean
        number += 1
        mean = total / number

def chunks(xs, size):
    for i in range(0, len(xs), size):
        yield xs[i:i + size]

class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n + 1

squares = (x * x for x in range(4))
evens = filter(lambda x: x % 2 == 0, range(7))
#%% wrong generators
def primes():
    yield from [1, 2, 3, 5, 7, 11]

def running_mean():
    mean = None
    while True:
        mean = yield mean

def chunks(xs, size):
    return [xs[i:i + size] for i in range(0, len(xs), size + 1)]

class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))

squares = [x * x for x in range(4)]
evens = [0, 2, 4, 6]
#%% test first 1
assert list(islice(primes(), 6)) == [2, 3, 5, 7, 11, 13]
#%% test lazily 1
p = primes()
assert next(p) == 2 and next(p) == 3
assert list(takewhile(lambda n: n < 12, p)) == [5, 7, 11]
#%% test sent 2
m = running_mean()
next(m)
assert m.send(10) == 10 and m.send(20) == 15
m.close()
#%% test exhausted 1
c = chunks([1, 2, 3, 4, 5], 2)
assert next(c) == [1, 2]
assert list(c) == [[3, 4], [5]]
try:
    next(c)
except StopIteration:
    pass
else:
    assert False
#%% test iterator 1
assert list(Countdown(3)) == [3, 2, 1]
it = iter(Countdown(2))
assert next(it) == 2
assert sum(Countdown(4)) == 10
#%% test variables 1
assert list(evens) == [0, 2, 4, 6]
assert sum(squares) == 14
#%% test used-up 1
assert list(squares) == []
assert next(evens, "none") == "none"
#%% test zipped 1
assert list(zip(chunks("abcd", 2), primes())) == [("ab", 2), ("cd", 3)]
assert dict(enumerate(Countdown(2))) == {0: 2, 1: 1}
'''

NOTEBOOKS["recursion"] = '''
#%% plain
import sys
from functools import lru_cache
#%% solution recursion
def flatten(x):
    if not isinstance(x, list):
        return [x]
    return [z for y in x for z in flatten(y)]

@lru_cache(maxsize=None)
def fib(n):
    """The n-th Fibonacci number."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def hanoi(n, a="A", b="B", c="C"):
    if n == 0:
        return []
    return hanoi(n - 1, a, c, b) + [(a, c)] + hanoi(n - 1, b, a, c)

def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

def is_even(n):
    return True if n == 0 else is_odd(n - 1)

def is_odd(n):
    return False if n == 0 else is_even(n - 1)
#%% wrong recursion
def flatten(x):
    return [z for y in x for z in (y if isinstance(y, list) else [y])]

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def hanoi(n, a="A", b="B", c="C"):
    return hanoi(n - 1, a, c, b) + [(a, c)] + hanoi(n - 1, b, a, c)

def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

def is_even(n):
    return n % 2 == 0

def is_odd(n):
    return n % 2 == 1
#%% test flat 1
assert flatten([1, [2, [3, [4]], []]]) == [1, 2, 3, 4]
deep = []
for _ in range(50):
    deep = [deep, 1]
assert len(flatten(deep)) == 50
#%% test cached 1
fib.cache_clear()
assert fib(50) == 12586269025
assert fib.cache_info().misses == 51
assert fib.__name__ == "fib" and fib.__wrapped__(1) == 1
#%% test small 1
assert [fib(i) for i in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]
#%% test towers 1
assert hanoi(2) == [("A", "B"), ("A", "C"), ("B", "C")]
assert len(hanoi(5)) == 31
#%% test too-deep 1
try:
    depth(10 ** 5)
except RecursionError:
    pass
else:
    raise AssertionError("no recursion")
assert depth(300) == 300
#%% test counted 2
calls = []
original = is_odd

def is_odd(n):
    calls.append(n)
    return original(n)

assert is_even(6)
is_odd = original
assert calls == [5, 3, 1]
'''

NOTEBOOKS["exceptions"] = '''
#%% solution errors
class BankError(Exception):
    """Base of all."""

class NotEnough(BankError):
    def __init__(self, needed, there):
        super().__init__(f"needed {needed}, there is {there}")
        self.needed, self.there = needed, there

class Closed(BankError, ValueError):
    pass

class Account:
    def __init__(self, balance=0):
        self.balance, self.closed = balance, False

    def withdraw(self, amount):
        if self.closed:
            raise Closed("the account is closed")
        if amount > self.balance:
            raise NotEnough(amount, self.balance)
        self.balance -= amount
        return self.balance

def parse(text):
    try:
        return int(text)
    except ValueError as error:
        raise BankError(f"no number: {text!r}") from error

def safe(f, *args, default=None):
    try:
        return f(*args)
    except (ZeroDivisionError, KeyError):
        return default
    finally:
        safe.calls = getattr(safe, "calls", 0) + 1
#%% wrong errors
class BankError(Exception):
    pass

class NotEnough(Exception):
    def __init__(self, needed, there):
        self.needed = needed

class Closed(BankError):
    pass

class Account:
    def __init__(self, balance=0):
        self.balance, self.closed = balance, False

    def withdraw(self, amount):
        if self.closed:
            raise Closed("the account is closed")
        if amount > self.balance:
            raise NotEnough(amount, self.balance)
        self.balance -= amount
        return self.balance

def parse(text):
    return int(text)

def safe(f, *args, default=None):
    try:
        return f(*args)
    except:
        return default
#%% test caught-by-base 1
try:
    Account(5).withdraw(10)
except BankError as error:
    assert isinstance(error, NotEnough)
#%% test carries 2
try:
    Account(5).withdraw(10)
except NotEnough as error:
    assert error.needed == 10
    assert error.there == 5
    assert str(error) == "needed 10, there is 5"
#%% test hierarchy 1
assert issubclass(NotEnough, BankError) and issubclass(BankError, Exception)
assert issubclass(Closed, ValueError)
assert not issubclass(BankError, ValueError)
#%% test closed-account 1
a = Account(5)
a.closed = True
try:
    a.withdraw(1)
except Closed as error:
    assert error.args == ("the account is closed",)
else:
    assert False
assert a.balance == 5
#%% test chained 1
try:
    parse("x")
except BankError as error:
    assert isinstance(error.__cause__, ValueError)
    assert "'x'" in str(error)
assert parse("12") == 12
#%% test raised-by-the-test 1
try:
    raise NotEnough(1, 2)
except BankError as error:
    assert error.there == 2
#%% test through 1
assert safe(lambda: 1 / 0, default=7) == 7
assert safe({"a": 1}.__getitem__, "a") == 1
try:
    safe(lambda: int("x"))
except ValueError:
    pass
else:
    raise AssertionError("swallowed")
#%% test own-exception-through 1
class Mine(KeyError):
    pass

def raising():
    raise Mine("x")

assert safe(raising, default="caught") == "caught"
assert safe.calls >= 1
'''

NOTEBOOKS["decorators"] = '''
#%% plain
import functools
import time
#%% solution decorators
def counted(f):
    """Count the calls of f."""
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        wrapper.calls += 1
        return f(*args, **kwargs)
    wrapper.calls = 0
    return wrapper

def repeat(times):
    def decorate(f):
        @functools.wraps(f)
        def wrapper(*args):
            return [f(*args) for _ in range(times)]
        return wrapper
    return decorate

def memoise(f):
    cache = {}
    @functools.wraps(f)
    def wrapper(*args):
        if args not in cache:
            cache[args] = f(*args)
        return cache[args]
    wrapper.cache = cache
    return wrapper

@counted
def double(x):
    "Twice x."
    return 2 * x

def compose(*fs):
    return functools.reduce(lambda f, g: lambda x: f(g(x)), fs)

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step

add_five = functools.partial(lambda a, b: a + b, 5)
#%% wrong decorators
def counted(f):
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)
    wrapper.calls = 0
    return wrapper

def repeat(times):
    def decorate(f):
        def wrapper(*args):
            return [f(*args)] * times
        return wrapper
    return decorate

def memoise(f):
    def wrapper(*args):
        return f(*args)
    return wrapper

@counted
def double(x):
    return 2 * x

def compose(*fs):
    return lambda x: fs[0](x)

def counter():
    return lambda: 1

add_five = lambda b: b + 5
#%% test counts 1
before = double.calls
assert double(4) == 8 and double(x=1) == 2
assert double.calls == before + 2
#%% test wrapped-name 1
assert double.__name__ == "double" and double.__doc__ == "Twice x."
assert double.__wrapped__(3) == 6
#%% test on-the-tests-function 2
@counted
def hello(name, mark="!"):
    "Say hello."
    return "hello " + name + mark

assert hello("x", mark="?") == "hello x?"
assert hello.calls == 1
assert hello.__name__ == "hello" and hello.__doc__ == "Say hello."
#%% test repeated 1
@repeat(times=3)
def roll(x):
    rolled.append(x)
    return len(rolled)

rolled = []
assert roll("a") == [1, 2, 3]
#%% test remembered 1
slow_calls = []

@memoise
def slow(x):
    slow_calls.append(x)
    return x * x

assert slow(3) == 9 and slow(3) == 9 and slow(4) == 16
assert slow_calls == [3, 4]
#%% test composed 1
assert compose(lambda x: x + 1, lambda x: x * 10)(2) == 21
assert compose(str, abs)(-3) == "3"
#%% test closures 1
a, b = counter(), counter()
assert [a(), a(), b()] == [1, 2, 1]
#%% test partial 1
assert add_five(3) == 8
assert list(map(add_five, [1, 2])) == [6, 7]
'''

NOTEBOOKS["dates_and_text"] = '''
#%% locked setup
import re
import string
from datetime import date, datetime, time, timedelta, timezone
#%% solution dates
def days_between(a, b):
    return abs((b - a).days)

def next_friday(day):
    return day + timedelta(days=(4 - day.weekday()) % 7 or 7)

def lessons(first, n):
    return [first + timedelta(weeks=i) for i in range(n)]

def parsed(text):
    return datetime.strptime(text, "%d.%m.%Y %H:%M").replace(tzinfo=timezone.utc)

def duration(text):
    match = re.fullmatch(r"(\\d+)h(\\d+)m", text)
    return timedelta(hours=int(match[1]), minutes=int(match[2]))

def opens():
    return time(8, 30)

def caesar(text, k):
    shifted = string.ascii_lowercase[k:] + string.ascii_lowercase[:k]
    return text.translate(str.maketrans(string.ascii_lowercase, shifted))

def title(text):
    return " ".join(w[:1].upper() + w[1:] for w in text.split())

def snowman():
    return "\\u2603 \\N{GREEK SMALL LETTER PI} \\U0001f600 \\x00 'quoted' \\"double\\" \\\\ \\t|"

pattern = re.compile(r"(?P<user>\\w+)@(?P<host>[\\w.]+)")
message = """line one
  line "two"
zeile drei: äöü"""
#%% wrong dates
def days_between(a, b):
    return (b - a).days

def next_friday(day):
    return day + timedelta(days=(4 - day.weekday()) % 7)

def lessons(first, n):
    return [str(first + timedelta(weeks=i)) for i in range(n)]

def parsed(text):
    return datetime.strptime(text, "%d.%m.%Y %H:%M")

def duration(text):
    h, m = text[:-1].split("h")
    return int(h) * 60 + int(m)

def opens():
    return "08:30"

def caesar(text, k):
    return "".join(chr(ord(c) + k) for c in text)

def title(text):
    return text.title()

def snowman():
    return "\\u2603"

pattern = re.compile(r"(?P<user>\\w+)@(?P<host>\\w+)")
message = "line one line two"
#%% test days 1
assert days_between(date(2024, 3, 1), date(2024, 2, 1)) == 29
assert days_between(datetime(2024, 1, 1), datetime(2024, 1, 3, 12)) == 2
#%% test friday 1
assert next_friday(date(2024, 5, 3)) == date(2024, 5, 10)
assert next_friday(date(2024, 5, 4)).isoformat() == "2024-05-10"
#%% test weekly 1
assert lessons(date(2024, 12, 30), 2) == [date(2024, 12, 30), date(2025, 1, 6)]
assert all(isinstance(day, date) for day in lessons(date(2024, 1, 1), 3))
#%% test zone 1
when = parsed("01.02.2024 03:04")
assert when == datetime(2024, 2, 1, 3, 4, tzinfo=timezone.utc) and when.utcoffset() == timedelta(0)
#%% test took 1
assert duration("2h30m") == timedelta(minutes=150)
assert duration("0h05m").total_seconds() == 300
#%% test clock 1
assert opens() == time(8, 30) and opens() < time(9)
#%% test cipher 1
assert caesar("xyz abc", 3) == "abc def"
assert caesar(caesar("hello", 5), 21) == "hello"
#%% test titles 1
assert title("it's  a dog") == "It's A Dog"
#%% test unicode 1
assert snowman() == "☃ π 😀 \\x00 'quoted' \\"double\\" \\\\ \\t|"
assert len(snowman()) == 30
#%% test lines 1
assert message.count("\\n") == 2 and message.endswith("äöü")
#%% test regular 1
match = pattern.search("mail ada@lovelace.org now")
assert match and match.group("host") == "lovelace.org" and match.span() == (5, 21)
assert pattern.match("nobody") is None and isinstance(pattern, re.Pattern)
assert pattern.findall("a@b.c d@e.f") == [("a", "b.c"), ("d", "e.f")]
'''

NOTEBOOKS["files"] = '''
#%% locked setup
import csv
import json
import os
from pathlib import Path
#%% solution files
def read_temperatures(path):
    with open(path, newline="") as file:
        return {row["city"]: float(row["degrees"]) for row in csv.DictReader(file)}

def save(path, data):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False)

def longest_line(path):
    return max(Path(path).read_text().splitlines(), key=len)

def log(text, path="log.txt"):
    with open(path, "a") as file:
        print(text, file=file)

def split(path, folder):
    os.makedirs(folder, exist_ok=True)
    for i, line in enumerate(Path(path).read_text().splitlines()):
        (Path(folder) / f"{i}.txt").write_text(line)

warmest = max(read_temperatures("data/cities.csv").items(), key=lambda kv: kv[1])[0]
save("summary.json", {"warmest": warmest})
#%% wrong files
def read_temperatures(path):
    with open(path, newline="") as file:
        return {row["city"]: row["degrees"] for row in csv.DictReader(file)}

def save(path, data):
    with open(path, "w") as file:
        file.write(str(data))

def longest_line(path):
    return open(path).readline()

def log(text, path="log.txt"):
    with open(path, "w") as file:
        print(text, file=file)

def split(path, folder):
    pass

warmest = "Oslo"
#%% test read 1
assert read_temperatures("data/cities.csv") == {"Oslo": 3.5, "Kairo": 31.0, "Zürich": 9.25}
#%% test found 1
assert warmest == "Kairo"
#%% test made-at-once 1
with open("summary.json") as file:
    assert json.load(file) == {"warmest": "Kairo"}
#%% test saved 2
save("out.json", {"a": [1, "ü"]})
assert os.path.exists("out.json")
assert json.loads(Path("out.json").read_text(encoding="utf-8")) == {"a": [1, "ü"]}
#%% test given-by-the-test 2
with open("lines.txt", "w") as file:
    file.write("a\\nabc\\nab\\n")
assert longest_line("lines.txt") == "abc"
os.remove("lines.txt")
try:
    longest_line("lines.txt")
except FileNotFoundError as error:
    assert error.filename == "lines.txt"
else:
    raise AssertionError
#%% test appended 1
log("one"), log("two")
assert open("log.txt").read() == "one\\ntwo\\n"
os.remove("log.txt")
log("three")
assert open("log.txt").read() == "three\\n"
#%% test folders 1
Path("all.txt").write_text("x\\ny")
split("all.txt", "parts/here")
assert sorted(os.listdir("parts/here")) == ["0.txt", "1.txt"]
assert Path("parts/here/1.txt").read_text() == "y"
'''

NOTEBOOKS["random_numbers"] = '''
#%% locked setup
import random
import numpy as np
#%% solution draws
def dice(n):
    return [random.randint(1, 6) for _ in range(n)]

def walk(steps, seed=None):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.choice([-1, 1], size=steps))

def noise(n):
    return np.random.normal(0, 1, n)

def shuffled(xs):
    xs = list(xs)
    random.shuffle(xs)
    return xs

def draw(rng, n):
    return rng.random(n)

random.seed(1)
first = random.random()
np.random.seed(7)
sample = np.random.rand(3)
#%% wrong draws
def dice(n):
    return [random.randint(0, 6) for _ in range(n)]

def walk(steps, seed=None):
    return np.cumsum(np.random.choice([-1, 1], size=steps))

def noise(n):
    return np.random.uniform(0, 1, n)

def shuffled(xs):
    xs = list(xs)
    random.shuffle(xs)
    return xs

def draw(rng, n):
    return rng.random(n) * 1

random.seed(2)
first = random.random()
sample = np.random.rand(3)
#%% test seeded-dice 1
random.seed(3)
assert dice(5) == [2, 5, 5, 2, 3]
#%% test same-as-here 1
random.seed(11)
got = dice(4)
random.seed(11)
assert got == [random.randint(1, 6) for _ in range(4)]
#%% test range-of-dice 1
assert set(dice(500)) == {1, 2, 3, 4, 5, 6}
#%% test walks 1
assert (walk(10, seed=4) == walk(10, seed=4)).all()
assert np.array_equal(walk(20, 5), np.cumsum(np.random.default_rng(5).choice([-1, 1], size=20)))
#%% test seeded-numpy 1
np.random.seed(0)
got = noise(3)
np.random.seed(0)
np.testing.assert_allclose(got, np.random.normal(0, 1, 3))
np.testing.assert_allclose(got, [1.76405235, 0.40015721, 0.97873798])
#%% test goes-on 1
random.seed(5)
a, b = dice(10), dice(10)
random.seed(5)
assert (a, b) == (dice(10), dice(10)) and a != b
#%% test shuffle 1
random.seed(2)
got = shuffled(range(5))
random.seed(2)
expected = list(range(5))
random.shuffle(expected)
assert got == expected and sorted(shuffled("abc")) == ["a", "b", "c"]
#%% test handed-over 1
rng = np.random.default_rng(1)
got = [draw(rng, 2), draw(rng, 2)]
again = np.random.default_rng(1).random(4)
np.testing.assert_array_equal(np.concatenate(got), again)
legacy = np.random.RandomState(3)
assert np.array_equal(legacy.rand(2), np.random.RandomState(3).rand(2))
#%% test at-once 1
random.seed(1)
assert first == random.random()
#%% test at-once-numpy 1
np.random.seed(7)
assert np.allclose(sample, np.random.rand(3))
'''

NOTEBOOKS["magics"] = '''
#%% plain
%matplotlib inline
%load_ext autoreload
%autoreload 2
import os
#%% solution magics
words = !echo one two
folder = %pwd

def slow(n):
    return sum(range(n))

async def fetched(x):
    import asyncio
    await asyncio.sleep(0)
    return x + 1

result = await fetched(1)
#%% wrong magics
words = ["one"]
folder = "somewhere"

def slow(n):
    return 0

async def fetched(x):
    return x

result = fetched(1)
#%% plain
%%bash
echo "a shell"
#%% plain
%%writefile helper.txt
some text
#%% test shell 1
assert words == ["one two"] and list(words) == ["one two"]
#%% test magic-value 1
assert os.path.isdir(folder)
#%% test timed 1
%time slow(10)
%timeit -n1 -r1 slow(10)
assert slow(10) == 45
#%% test timed-cell 1
%%time
assert slow(4) == 6
#%% test timed-object 1
t = %timeit -n1 -r1 -o -q slow(100)
assert t.best < 5
#%% test awaited 1
assert result == 2
#%% test await-in-test 1
assert await fetched(4) == 5
#%% test written 1
assert open("helper.txt").read() == "some text\\n"
#%% test shell-in-test 1
out = !echo {slow(3)}
assert out[0] == "3"
#%% test gathered 1
import asyncio
assert await asyncio.gather(fetched(1), fetched(2)) == [2, 3]
assert asyncio.iscoroutinefunction(fetched)
'''

NOTEBOOKS["plots"] = '''
#%% locked setup
import matplotlib.pyplot as plt
import numpy as np
%matplotlib inline
#%% solution plots
def draw(x, y):
    fig, ax = plt.subplots()
    ax.plot(x, y, "r--", label="data")
    ax.plot(x, np.zeros(len(x)), label="zero")
    ax.set_xlabel("time / s")
    ax.set_title("Position")
    ax.legend()
    return ax

def histogram(ax, values):
    ax.hist(values, bins=5, range=(0, 5))
    ax.set_ylabel("count")

def quick(xs):
    plt.figure(figsize=(4, 3))
    plt.bar(range(len(xs)), xs, color="C1")
    plt.title("quick")

def heat(a):
    fig, axes = plt.subplots(1, 2)
    image = axes[0].imshow(a, cmap="viridis")
    fig.colorbar(image, ax=axes[1])
    return fig

x = np.linspace(0, 1, 11)
fig, ax = plt.subplots(figsize=(3, 2))
ax.scatter(x, x ** 2)
ax.set_xlim(0, 2)
ax.set_yscale("log")
#%% wrong plots
def draw(x, y):
    fig, ax = plt.subplots()
    ax.plot(x, y, "r-")
    ax.set_xlabel("t")
    ax.set_title("Position")
    return ax

def histogram(ax, values):
    ax.bar(range(len(values)), values)

def quick(xs):
    plt.figure()
    plt.plot(xs)

def heat(a):
    fig, ax = plt.subplots()
    ax.imshow(a)
    return fig

x = np.linspace(0, 1, 11)
fig, ax = plt.subplots()
ax.plot(x, x ** 2)
#%% test title 1
a = draw([1, 2], [3, 4])
assert a.get_title() == "Position"
assert isinstance(a, plt.Axes)
#%% test labels 1
a = draw([1, 2], [3, 4])
assert a.get_xlabel() == "time / s" and a.xaxis.get_label().get_text() == "time / s"
assert [t.get_text() for t in a.get_legend().get_texts()] == ["data", "zero"]
#%% test lines 1
a = draw([1, 2], [3, 4])
line = a.lines[0]
np.testing.assert_array_equal(line.get_xdata(), [1, 2])
np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [2, 4]])
assert line.get_color() in ("r", "red")
#%% test styles 1
line = draw([1, 2], [3, 4]).get_lines()[0]
assert line.get_linestyle() == "--"
#%% test on-given-axes 2
figure, given = plt.subplots()
assert histogram(given, [0.5, 1.5, 1.6]) is None
assert [p.get_height() for p in given.patches] == [1, 2, 0, 0, 0]
assert given.get_ylabel() == "count"
plt.close(figure)
#%% test current 2
plt.close("all")
quick([1, 2, 3])
assert len(plt.get_fignums()) == 1
current = plt.gca()
assert [bar.get_height() for bar in current.patches] == [1, 2, 3]
assert current.get_title() == "quick" and plt.gcf().get_figwidth() == 4
plt.close()
#%% test images 1
f = heat(np.arange(6).reshape(2, 3))
assert len(f.axes) >= 2
image = f.axes[0].images[0]
assert image.get_array().shape == (2, 3) and image.get_cmap().name == "viridis"
#%% test made-at-once 1
assert ax.get_xlim() == (0, 2) and ax.get_yscale() == "log"
assert len(ax.collections) == 1 and ax.collections[0].get_offsets().shape == (11, 2)
assert fig.axes[0] is ax
#%% test sizes 1
assert tuple(fig.get_size_inches()) == (3, 2)
'''

NOTEBOOKS["arrays_with_fields"] = '''
#%% solution fields
import numpy as np

fields = [("name", "U10"), ("age", "i4"), ("height", "f8")]
people = np.array([("Ada", 36, 1.65), ("Bob", 41, 1.80)], dtype=fields)

def oldest(table):
    return table[np.argmax(table["age"])]["name"]

def grown(table, years):
    out = table.copy()
    out["age"] += years
    return out

def masked(values, limit):
    return np.ma.masked_greater(np.asarray(values), limit)

def line(x, y):
    return np.polyfit(x, y, 1)

def curve(coefficients):
    return np.poly1d(coefficients)

ragged = np.array([[1, 2], [3]], dtype=object)
days = np.arange("2024-02-27", "2024-03-02", dtype="datetime64[D]")
flags = np.array([True, False])
z = np.exp(1j * np.pi * np.arange(3) / 2)
#%% wrong fields
import numpy as np

people = np.array([("Ada", 36), ("Bob", 41)], dtype=[("name", "U10"), ("age", "i4")])

def oldest(table):
    return table[0]["name"]

def grown(table, years):
    table["age"] += years
    return table

def masked(values, limit):
    return np.asarray(values)

def line(x, y):
    return np.polyfit(x, y, 2)

def curve(coefficients):
    return list(coefficients)

ragged = [[1, 2], [3]]
days = np.arange("2024-02-27", "2024-03-01", dtype="datetime64[D]")
flags = np.array([1, 0])
z = np.arange(3)
#%% test fields-of 1
assert people.dtype.names == ("name", "age", "height")
assert people["height"].mean() == 1.725
#%% test rows 1
assert people[0]["name"] == "Ada" and people.shape == (2,)
assert people[1].tolist()[:2] == ("Bob", 41)
#%% test passed 1
table = np.array([("x", 5), ("y", 9)], dtype=[("name", "U5"), ("age", "i4")])
assert oldest(table) == "y"
#%% test not-in-place 1
table = np.array([("x", 5)], dtype=[("name", "U5"), ("age", "i4")])
older = grown(table, 2)
assert older["age"][0] == 7 and table["age"][0] == 5
#%% test hidden-values 1
m = masked([1, 5, 9], 4)
assert np.ma.isMaskedArray(m) and m.sum() == 1 and m.mask.tolist() == [False, True, True]
#%% test fit 1
np.testing.assert_allclose(line([0, 1, 2], [1, 3, 5]), [2, 1], atol=1e-9)
#%% test polynomial 1
p = curve([1, 0, -1])
assert p(3) == 8 and p.order == 2 and sorted(p.roots) == [-1, 1]
#%% test kinds 1
assert ragged.dtype == object and ragged[0] == [1, 2] and len(ragged) == 2
assert flags.dtype == bool and z.dtype == complex
#%% test calendar 1
assert len(days) == 4 and days[2] == np.datetime64("2024-02-29")
assert days[-1] - days[0] == np.timedelta64(3, "D")
#%% test complex-numbers 1
np.testing.assert_allclose(z, [1, 1j, -1], atol=1e-12)
'''

NOTEBOOKS["torch_training"] = '''
#%% locked setup
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
torch.manual_seed(0)
#%% solution model
class Net(nn.Module):
    def __init__(self, inputs=4, hidden=8):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.fc2(self.dropout(F.relu(self.fc1(x))))

def train_step(model, optimiser, x, y):
    model.train()
    optimiser.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
    return loss.item()

def fit(model, x, y, epochs=20, lr=0.1):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    return [train_step(model, optimiser, x, y) for _ in range(epochs)]

@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return (model(x).argmax(1) == y).float().mean().item()

def initialise(layer):
    nn.init.normal_(layer.weight, 0, 0.1)
    nn.init.zeros_(layer.bias)

class Numbers(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return torch.tensor([float(i)]), i % 2

def noise(n):
    return torch.randn(n)

model = Net()
history = fit(Net(), torch.eye(4), torch.tensor([0, 1, 0, 1]), epochs=30)
#%% wrong model
class Net(nn.Module):
    def __init__(self, inputs=4, hidden=8):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, x):
        return F.softmax(self.fc2(self.fc1(x)), dim=0)

def train_step(model, optimiser, x, y):
    loss = F.cross_entropy(model(x), y)
    optimiser.step()
    return loss.item()

def fit(model, x, y, epochs=20, lr=0.1):
    return [0.5] * epochs

def accuracy(model, x, y):
    return (model(x).argmax(0) == y).float().mean()

def initialise(layer):
    nn.init.normal_(layer.weight, 0, 0.1)

class Numbers(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return i

def noise(n):
    return torch.rand(n)

model = Net()
history = []
#%% test layers 1
assert isinstance(model, nn.Module) and isinstance(model.fc1, nn.Linear)
assert model.fc1.weight.shape == (8, 4) and model.fc2.out_features == 2
assert sum(p.numel() for p in model.parameters()) == 58
assert any(isinstance(m, nn.Dropout) for m in model.modules())
assert issubclass(Net, nn.Module)
#%% test shapes 1
out = model(torch.randn(5, 4))
assert out.shape == (5, 2) and out.requires_grad
with torch.no_grad():
    quiet = model(torch.randn(3, 4))
assert not quiet.requires_grad and quiet.numpy().shape == (3, 2)
#%% test modes 1
model.eval()
assert not model.training
x = torch.randn(6, 4)
assert torch.equal(model(x), model(x))
model.train()
assert model.training
#%% test gradients 1
net = Net()
loss = F.mse_loss(net(torch.ones(2, 4)), torch.zeros(2, 2))
loss.backward()
assert net.fc2.bias.grad is not None and net.fc2.bias.grad.shape == (2,)
#%% test step-by-the-tests-optimiser 2
torch.manual_seed(1)
net = Net()
optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
before = [p.clone().detach() for p in net.parameters()]
x, y = torch.eye(4), torch.tensor([0, 1, 1, 0])
losses = [train_step(net, optimiser, x, y) for _ in range(20)]
assert all(isinstance(l, float) for l in losses)
assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters()))
#%% test the-tests-model 1
torch.manual_seed(2)
mine = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
first = fit(mine, torch.eye(4), torch.tensor([0, 1, 1, 0]), epochs=40, lr=0.05)
assert first[-1] < first[0]
with torch.no_grad():
    assert (mine(torch.eye(4)).argmax(1) == torch.tensor([0, 1, 1, 0])).all()
#%% test learned 1
torch.manual_seed(3)
net = Net(4, 32)
losses = fit(net, torch.eye(4), torch.tensor([0, 1, 1, 0]), epochs=60)
assert len(losses) == 60 and min(losses) < 0.3
assert accuracy(net, torch.eye(4), torch.tensor([0, 1, 1, 0])) == 1.0
#%% test recorded 1
assert len(history) == 30 and history[-1] < history[0]
#%% test initialised 1
torch.manual_seed(5)
layer = nn.Linear(50, 50)
initialise(layer)
assert layer.bias.abs().sum() == 0 and abs(layer.weight.std().item() - 0.1) < 0.01
#%% test state 1
net, other = Net(), Net()
other.load_state_dict(net.state_dict())
net.eval(), other.eval()
assert torch.allclose(net(torch.ones(1, 4)), other(torch.ones(1, 4)))
#%% test copied 1
net = Net()
twin = copy.deepcopy(net)
with torch.no_grad():
    net.fc1.weight.zero_()
assert net.fc1.weight.abs().sum() == 0 and twin.fc1.weight.abs().sum() > 0
#%% test seeded 1
torch.manual_seed(9)
a = noise(3)
torch.manual_seed(9)
assert torch.equal(a, torch.randn(3))
#%% test dataset 1
data = Numbers(6)
assert len(data) == 6 and data[2][1] == 0
batches = list(torch.utils.data.DataLoader(data, batch_size=4))
assert [b[0].shape[0] for b in batches] == [4, 2] and batches[0][1].tolist() == [0, 1, 0, 1]
'''

NOTEBOOKS["autograd"] = '''
#%% plain
import torch
import numpy as np
#%% solution grad
def f(x):
    return (x ** 3).sum()

def gradient(x):
    x = x.clone().requires_grad_()
    f(x).backward()
    return x.grad

def descend(x, steps, lr):
    for _ in range(steps):
        loss = ((x - 3) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            x -= lr * x.grad
            x.grad.zero_()
    return x

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy

w = torch.zeros(3, requires_grad=True)
((w - 1) ** 2).sum().backward()

def numerical(g, x, eps=1e-6):
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        old = x[i]
        x[i] = old + eps
        up = g(x)
        x[i] = old - eps
        out[i] = (up - g(x)) / (2 * eps)
        x[i] = old
    return out
#%% wrong grad
def f(x):
    return (x ** 2).sum()

def gradient(x):
    x = x.clone().requires_grad_()
    f(x).backward()
    return x.grad

def descend(x, steps, lr):
    for _ in range(steps):
        x = x - lr * 2 * (x - 3)
    return x.detach()

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return dy

w = torch.zeros(3)

def numerical(g, x, eps=1e-6):
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += eps
        out[i] = g(x) / eps
    return out
#%% test backward-by-test 1
x = torch.tensor([1.0, 2.0], requires_grad=True)
f(x).backward()
assert torch.equal(x.grad, 3 * x.detach() ** 2)
#%% test consistent 1
x = torch.tensor([1.0, 2.0])
g = gradient(x)
y = x.clone().requires_grad_()
f(y).backward()
assert torch.allclose(g, y.grad) and x.grad is None
#%% test grad-function 1
x = torch.tensor([2.0], requires_grad=True)
(g,) = torch.autograd.grad(f(x), x)
assert g.item() == 12
#%% test in-place-leaf 1
x = torch.zeros(2, requires_grad=True)
out = descend(x, 50, 0.1)
assert torch.allclose(x, torch.full((2,), 3.0), atol=1e-2) and out is x
#%% test own-function 1
x = torch.randn(3, dtype=torch.double, requires_grad=True)
assert torch.autograd.gradcheck(Double.apply, (x,))
#%% test leaf 1
assert w.is_leaf and torch.equal(w.grad, torch.full((3,), -2.0))
#%% test differences 1
x = np.array([1.0, -2.0])
np.testing.assert_allclose(numerical(lambda v: float((v ** 2).sum()), x), 2 * x, rtol=1e-4)
assert x.tolist() == [1.0, -2.0]
#%% test chained 1
x = torch.ones(2, requires_grad=True)
loss = (f(2 * x) + 1) ** 2
loss.backward()
assert torch.allclose(x.grad, 2 * (f(2 * x.detach()) + 1) * 3 * (2 * x.detach()) ** 2 * 2)
'''

NOTEBOOKS["imports"] = '''
#%% solution circle
import math
from collections import Counter as Tally
import helper_of_the_course as helper

def circumference(r):
    return 2 * math.pi * r

def tally(xs):
    return Tally(xs)

def scaled(x):
    return helper.scale(x)
#%% wrong circle
from math import pi

def circumference(r):
    return 2 * pi * r

def tally(xs):
    return {x: xs.count(x) for x in xs}

def scaled(x):
    return 10 * x
#%% test uses-their-import 1
assert math.isclose(circumference(1), 6.283185307179586)
#%% test alias 1
assert tally("aab") == Tally(a=2, b=1)
#%% test own-import 1
import cmath
assert abs(circumference(2) - 4 * cmath.pi) < 1e-9
#%% test course-module 1
import helper_of_the_course
assert scaled(2) == helper_of_the_course.scale(2) == 20
#%% test module-name 1
assert helper.FACTOR == 10
'''

NOTEBOOKS["given_classes"] = '''
#%% locked given
from dataclasses import dataclass
from enum import Enum

class Node:
    """A node of a linked list; the same for everybody."""

    def __init__(self, value, next=None):
        self.value, self.next = value, next

    def __repr__(self):
        return f"Node({self.value})"

class Empty(Exception):
    pass

class Suit(Enum):
    HEARTS = "h"
    SPADES = "s"

@dataclass(frozen=True)
class Card:
    rank: int
    suit: Suit

class Tree:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None

class Shape:
    def area(self):
        raise NotImplementedError

def values(node):
    while node is not None:
        yield node.value
        node = node.next

inventory = {"apple": 2}
limits = [1, 2, 3]
#%% solution answers
def reverse(head):
    previous = None
    while head is not None:
        head.next, previous, head = previous, head, head.next
    return previous

def append(head, value):
    if head is None:
        return Node(value)
    node = head
    while node.next:
        node = node.next
    node.next = Node(value)
    return head

def first(head):
    if head is None:
        raise Empty("no node")
    return head.value

def insert(tree, value):
    if tree is None:
        return Tree(value)
    side = "left" if value < tree.value else "right"
    setattr(tree, side, insert(getattr(tree, side), value))
    return tree

def in_order(tree):
    return [] if tree is None else in_order(tree.left) + [tree.value] + in_order(tree.right)

def best(cards):
    return max(cards, key=lambda card: card.rank)

def other(suit):
    return Suit.SPADES if suit is Suit.HEARTS else Suit.HEARTS

class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side ** 2

def stock(store, name, n):
    store[name] = store.get(name, 0) + n

stock(inventory, "pear", 1)

def within(x):
    return limits[0] <= x <= limits[-1]
#%% wrong answers
def reverse(head):
    return head

def append(head, value):
    return Node(value, head)

def first(head):
    if head is None:
        raise ValueError("no node")
    return head.value

def insert(tree, value):
    if tree is None:
        return Tree(value)
    tree.right = insert(tree.right, value)
    return tree

def in_order(tree):
    return [] if tree is None else in_order(tree.left) + [tree.value] + in_order(tree.right)

def best(cards):
    return Card(14, Suit.SPADES)

def other(suit):
    return suit.value

class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side ** 2

def stock(store, name, n):
    store = {**store, name: n}

stock(inventory, "pear", 1)

def within(x):
    return 1 <= x <= 3
#%% test reversed 1
head = Node(1, Node(2, Node(3)))
turned = reverse(head)
assert list(values(turned)) == [3, 2, 1]
assert isinstance(turned, Node)
assert head.next is None
#%% test appended 1
head = Node(1)
assert append(head, 2) is head
assert list(values(head)) == [1, 2] and repr(head.next) == "Node(2)"
assert isinstance(append(None, 5), Node)
#%% test error 1
assert first(Node(4)) == 4
try:
    first(None)
except Empty as error:
    assert "no node" in str(error)
else:
    assert False
#%% test tree 1
root = Tree(5)
for value in (2, 8, 1):
    insert(root, value)
assert root.left.value == 2 and root.left.left.value == 1 and root.right.value == 8
assert in_order(root) == [1, 2, 5, 8]
#%% test cards 1
hand = [Card(3, Suit.HEARTS), Card(9, Suit.SPADES)]
assert best(hand) == Card(9, Suit.SPADES)
assert best(hand) is hand[1] and best(hand).suit is Suit.SPADES
#%% test enumerated 1
assert other(Suit.HEARTS) is Suit.SPADES and other(Suit.SPADES) == Suit.HEARTS
#%% test derived 1
assert issubclass(Square, Shape) and isinstance(Square(2), Shape)
assert Square(3).area() == 9
#%% test stored 2
assert inventory == {"apple": 2, "pear": 1}
stock(inventory, "apple", 3)
assert inventory["apple"] == 5
#%% test limited 1
assert within(3) and not within(4)
limits.append(10)
assert within(4)
limits.pop();
'''

NOTEBOOKS["handed_over"] = '''
#%% locked setup
from math import *
import io
import numpy as np
#%% solution functions
def total(numbers):
    result = 0
    for number in numbers:
        result += number
    return result

def shout(file, out):
    for line in file:
        out.write(line.upper())

def report(rows, file=None):
    for row in rows:
        print(*row, sep=";", file=file)

def integral(f, a, b, n=1000):
    h = (b - a) / n
    return h * sum(f(a + (i + 0.5) * h) for i in range(n))

def apply(f, xs):
    return [f(x) for x in xs]

def fill(grid, f):
    for i in np.ndindex(grid.shape):
        grid[i] = f(*i)

def hypotenuse(a, b):
    return sqrt(a * a + b * b)

def visit(tree, action):
    for key, value in tree.items():
        action(key)
        if isinstance(value, dict):
            visit(value, action)

def pairs(d, keys):
    return {key: d[key] for key in keys}
#%% wrong functions
def total(numbers):
    return sum(numbers[:])

def shout(file, out):
    out.write(file.read())

def report(rows, file=None):
    for row in rows:
        print(*row)

def integral(f, a, b, n=1000):
    h = (b - a) / n
    return h * sum(f(a + i * h) for i in range(0, n, 2))

def apply(f, xs):
    return f(xs)

def fill(grid, f):
    grid = np.zeros_like(grid)

def hypotenuse(a, b):
    return a + b

def visit(tree, action):
    for key in tree:
        action(key)

def pairs(d, keys):
    return {key: None for key in keys}
#%% test generator 1
assert total(x * x for x in range(4)) == 14
assert total(iter([1, 2])) == 3 and total(map(int, "12")) == 3
assert total(zip()) == 0
#%% test list 1
assert total([1, 2, 3]) == 6 and total((1.5, 2)) == 3.5 and total(range(4)) == 6
#%% test streams 1
out = io.StringIO()
shout(io.StringIO("a\\nb\\n"), out)
assert out.getvalue() == "A\\nB\\n"
#%% test opened 1
with open("words.txt", "w") as file:
    file.write("x\\ny")
out = io.StringIO()
with open("words.txt") as file:
    shout(file, out)
assert out.getvalue() == "X\\nY"
#%% test printed 1
buffer = io.StringIO()
report([(1, "a"), (2, "b")], file=buffer)
assert buffer.getvalue() == "1;a\\n2;b\\n"
#%% test functions-of-numbers 1
assert abs(integral(lambda x: x ** 2, 0, 1) - 1 / 3) < 1e-6
assert abs(integral(sin, 0, pi) - 2) < 1e-5
assert abs(integral(np.exp, 0, 1) - (e - 1)) < 1e-5
#%% test applied 1
assert apply(str, [1, 2]) == ["1", "2"]
assert apply(len, ["ab"]) == [2] and apply(lambda x: x * 2, "ab") == ["aa", "bb"]
assert apply([10, 20, 30].__getitem__, [2, 0]) == [30, 10]
#%% test filled 1
grid = np.zeros((2, 3))
view = grid[0]
fill(grid, lambda i, j: 10 * i + j)
assert grid.tolist() == [[0, 1, 2], [10, 11, 12]]
assert view.tolist() == [0, 1, 2]
#%% test star-import 1
assert hypotenuse(3, 4) == sqrt(25) == 5
#%% test visited 1
seen = []
visit({"a": {"b": 1}, "c": 2}, seen.append)
assert seen == ["a", "b", "c"]
#%% test views-of-dicts 1
d = {"a": 1, "b": 2}
assert pairs(d, d.keys()) == d
#%% test stdin 1
import sys
old, sys.stdin = sys.stdin, io.StringIO("5\\n6\\n")
try:
    assert total(int(sys.stdin.readline()) for _ in range(2)) == 11
finally:
    sys.stdin = old
'''

NOTEBOOKS["unfinished"] = '''
#%% solution one
def one():
    return 1
#%% wrong one
def one()
    return 1
#%% test test-one 1
assert one() == 1
#%% solution two
def two():
    return one() + 1
#%% wrong two
# YOUR CODE HERE
raise NotImplementedError()
#%% test test-two 1
assert two() == 2
#%% solution three
def three():
    return 3
values = [three()] * 3
#%% wrong three
def three():
    return 3
print(undefined_name)
values = [three()] * 3
#%% test test-three 1
assert three() == 3
#%% test test-values 1
assert values == [3, 3, 3]
#%% solution four
def four():
    return 4
result = four()
#%% wrong four
def four(n):
    return 4
    result = 4
#%% test test-four 1
assert four() == result
#%% test test-result 1
assert result in (4, 4.0)
#%% solution five
five = lambda: {"n": 5}
#%% wrong five
five = {"n": 5}
#%% test test-five 1
assert five()["n"] == 5
#%% solution six
total = 0
for i in range(4):
    total += i
#%% wrong six
total = "6"
#%% test test-six 1
assert total == 6
#%% test test-loop-variable 1
assert i == 3
'''
