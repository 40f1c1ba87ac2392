"""What crosses between the processes: values come out as they went in, and what is malformed does nothing."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import os
import socket
import struct
import threading

import numpy as np
import pytest
import torch

from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.codec import BadData, Decoder, Encoder, Unencodable
from coursekit.grading.execution.names import Instructor, bound, parse, used
from coursekit.grading.execution.pairs import Pairs

Point = collections.namedtuple("Point", "x y")


def no_reference(value):
    raise Unencodable(type(value).__name__)


def no_object(node):
    raise BadData(node[0])


def through(value):
    """A value after its journey, and what could be changed in place: by number, on both sides."""
    here, there = Pairs(1), Pairs(-1)
    encoder = Encoder(here, no_reference)
    node = json.loads(json.dumps(encoder.encode(value)))
    buffers = [bytearray(memoryview(buffer).cast("B")) for buffer in encoder.buffers]
    got = Decoder(buffers, there, no_object).decode(node)
    assert here.objects.keys() == there.objects.keys()
    return got, here.objects, there.objects


VALUES = [
    None, True, 3, 2**70, -(2**80), 1.5, float("inf"), "ä\ud800", b"x", bytearray(b"yy"), 1j, [1, [2, (3,)]],
    {1: "a", (1, 2): [3]}, {1, 2}, frozenset([1]), collections.Counter("aab"), collections.deque([1], 5),
    collections.OrderedDict(a=1), slice(1, None), range(3), ..., NotImplemented, fractions.Fraction(1, 3),
    decimal.Decimal("1.20"), datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3),
    datetime.timedelta(1, 2),
    np.float64(2.5), np.bool_(True), np.str_("a"), np.dtype("f4"), Point(1, [2]), torch.Size([1, 2]),
    torch.float16, torch.device("cpu"),
]  # fmt: skip
ARRAYS = [
    np.ones((2, 3), "f4"), np.zeros((0, 3)), np.array(5), np.array(["a", "bb"]), np.array([], "U3"),
    np.array(["2020-01-01"], "M8[D]"), np.arange(6).reshape(2, 3).T, np.array([1 + 2j]),
    np.array([None, "a"], object),
]  # fmt: skip
TENSORS = [
    torch.ones(2, 3), torch.ones(2, dtype=torch.bfloat16), torch.tensor(3), torch.zeros(0, 2),
    torch.tensor([True, False]), torch.ones(1).expand(3), torch.arange(6).reshape(2, 3).T,
    torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2)),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_out_as_it_went_in(value):
    got, sent, received = through(value)
    assert type(got).__name__ == type(value).__name__
    assert got == value
    assert {n: type(one) for n, one in sent.items()} == {n: type(one) for n, one in received.items()}


def test_an_array_with_fields_comes_out_as_it_went_in():
    array = np.array([("a", 1, [2, 3])], [("name", "U5"), ("n", "i4"), ("pair", "f8", (2,))])
    got, _, _ = through(array)
    assert got.dtype == array.dtype and (got == array).all()


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_an_array_comes_out_as_it_went_in(array):
    got, _, _ = through(array)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert np.array_equal(got, array)


@pytest.mark.parametrize("tensor", TENSORS, ids=str)
def test_a_tensor_comes_out_as_it_went_in(tensor):
    got, _, _ = through(tensor)
    assert type(got) is type(tensor)
    assert (got.dtype, got.requires_grad, got.device) == (tensor.dtype, tensor.requires_grad, tensor.device)
    assert torch.equal(got, tensor)


def test_a_tensor_on_the_meta_device_has_a_shape_and_no_data():
    got, _, _ = through(torch.empty(2, 10**9, device="meta"))
    assert got.is_meta and got.shape == (2, 10**9)


def test_a_generator_goes_on_where_it_was():
    generator = np.random.default_rng(3)
    got, _, _ = through(generator)
    assert got.normal() == generator.normal()


def test_a_read_only_array_stays_read_only():
    array = np.ones(2)
    array.flags.writeable = False
    assert not through(array)[0].flags.writeable


def test_what_could_be_changed_has_the_same_number_on_both_sides():
    value = [np.ones(2), {"a": [1, torch.ones(3)], "b": {4}}, (bytearray(b"x"), collections.deque([5]))]
    _, sent, received = through(value)
    assert {n: type(one) for n, one in sent.items()} == {n: type(one) for n, one in received.items()}
    assert len(sent) == 8


class Odd:
    pass


NO_DATA = {
    "object": Odd(), "list": [Odd()], "dict": {"a": Odd()}, "function": lambda: None, "masked": np.ma.ones(2),
}  # fmt: skip


@pytest.mark.parametrize("value", NO_DATA.values(), ids=NO_DATA)
def test_what_is_no_data_is_refused(value):
    with pytest.raises(Unencodable):
        Encoder(Pairs(1), no_reference).encode(value)


def test_a_value_that_holds_itself_still_does():
    value: list = []
    value.append(value)
    got, _, _ = through(value)
    assert got[0] is got


def test_rows_that_are_one_list_stay_one_list():
    got, _, _ = through([[0]] * 2)
    assert got[0] is got[1]


def test_a_value_that_nests_without_end_is_refused():
    value: list = []
    for _ in range(100):
        value = [value]
    with pytest.raises(Unencodable, match="nested more than 60 deep"):
        Encoder(Pairs(1), no_reference).encode(value)


@pytest.mark.parametrize("number", [1, 0, "1", None, True])
def test_a_number_that_is_not_the_other_sides_to_give_is_refused(number):
    with pytest.raises(BadData):
        Decoder([], Pairs(1), no_object).decode(["pair", number, ["list", []]])


def test_a_number_is_given_once():
    decoder = Decoder([], Pairs(1), no_object)
    decoder.decode(["pair", -1, ["list", []]])
    with pytest.raises(BadData):
        decoder.decode(["pair", -1, ["list", []]])


@pytest.mark.parametrize(
    "node",
    [
        {"a": 1}, [], ["unknown", 1], ["array", 0, "O", [1], True], ["array", 0, "|V8", [1], True],
        ["array", 0, "f8", [3], True], ["array", 5, "f8", [1], True], ["array", -1, "f8", [1], True],
        ["array", 0, "f8", [-1, -1], True], ["array", 0, "U999999999", [1], True], ["scalar", 0, "O"],
        ["tensor", 0, "load", [1], "cpu", False, False, None, None],
        ["tensor", 0, "float32", [9], "cpu", False, False, None, None],
        ["tensor", 0, "float32", [2], "nowhere", False, False, None, None],
        ["type", "os.system"], ["type", "Popen"],
        ["torch.dtype", "save"], ["generator", "system", None], ["generator", "PCG64", 3], ["Fraction", 1, 0],
        ["Decimal", "abc"], ["int", "zz"],
        ["named", "m", "__import__('os')", ["a"], [1]], ["named", "m", "P", ["a b"], [1]],
        ["dict", [[["list", []], 1]]], ["set", [["list", []]]], ["datetime", "yesterday"], ["bytes", 7],
        ["list", 3], ["slice", 1, 2, 3, 4],
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_node_decodes_to_nothing(node):
    with pytest.raises(BadData):
        Decoder([bytearray(8)], Pairs(1), no_object).decode(node)


def test_a_node_that_nests_without_end_decodes_to_nothing():
    node: list = ["list", []]
    for _ in range(200):
        node = ["list", [node]]
    with pytest.raises(BadData, match="too deep"):
        Decoder([], Pairs(1), no_object).decode(node)


def test_a_named_tuple_is_never_of_a_class_with_other_fields():
    for module, name in ((__name__, "Point"), ("os", "system")):
        got = Decoder([], Pairs(1), no_object).decode(["named", module, name, ["x"], [1]])
        assert type(got) is not Point and isinstance(got, tuple) and got.x == 1


# ---- The channel


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours.fileno(), ours.fileno(), limit=10_000), theirs


def test_a_message_arrives_with_its_buffers(pair):
    channel, other = pair
    Channel(other.fileno(), other.fileno()).send({"a": [1, "ä"]}, [b"xyz", np.arange(3, dtype="u1")])
    message, buffers = channel.receive(1)
    assert (message, [bytes(buffer) for buffer in buffers]) == ({"a": [1, "ä"]}, [b"xyz", b"\0\1\2"])


def frame(text: bytes, total: int = 0) -> bytes:
    return struct.pack("!IQ", len(text), total) + text


@pytest.mark.parametrize(
    "data",
    [
        frame(b"not json"), frame(b"[1, []]"), frame(b"[{}, [5]]"), frame(b"[{}, [-5, 5]]"), frame(b"{}"),
        frame(b"[{}, []]", total=2**40), frame(b"[" * 5000), frame(b'[{}, ["a"]]'), b"\0" * 12,
    ],
)  # fmt: skip
def test_what_is_no_message_closes_the_channel(pair, data):
    channel, other = pair
    other.sendall(data)
    with pytest.raises(ChannelClosed):
        channel.receive(1)


def test_half_a_message_is_waited_for_and_given_up(pair):
    channel, other = pair
    other.sendall(frame(b"[{}, []]")[:10])
    with pytest.raises(ReplyLate):
        channel.receive(0.05)


def test_a_channel_whose_other_end_is_gone_is_closed(pair):
    channel, other = pair
    other.close()
    with pytest.raises(ChannelClosed):
        channel.receive(1)
    with pytest.raises(ChannelClosed):
        channel.send({"a": "x" * 10**6})


def test_a_large_message_passes_through_a_small_pipe():
    read, write = os.pipe()
    data = np.random.default_rng(0).bytes(10**6)
    sender = threading.Thread(target=Channel(read, write).send, args=({}, [data]))
    sender.start()
    _, (got,) = Channel(read, write).receive(10)
    sender.join()
    Channel(read, write).close()
    assert bytes(got) == data


# ---- Names


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("f(x)", {"f", "x"}),
        ("def g(a):\n    return f(a) + b", {"f", "b", "g"}),
        ("[y for y in z if w]", {"z", "w"}),
        ("import os\nos.path", {"os"}),
        ("del squares", {"squares"}),
        ("await f(1)", {"f"}),
        ("%matplotlib inline\nplot(x)", {"get_ipython", "plot", "x", "matplotlib", "inline"}),
        ("def broken(:", set()),
    ],
)
def test_the_names_that_a_cell_uses(source, expected):
    assert used(source) >= expected and len(used(source)) == len(expected)


def test_the_names_that_a_statement_binds():
    text = "for i, (a, b) in pairs:\n    with open(p) as f:\n        c = lambda d: [e for e in d]"
    (statement,) = parse(text)
    assert set(bound(statement)) == {"i", "a", "b", "f", "c"}


def cell(source, **mark):
    return {"cell_type": "code", "source": source, "metadata": {"nbgrader": mark} if mark else {}}


SOURCE = {
    "cells": [
        cell("import numpy as np\nSCALE = 2", locked=True, grade_id="setup"),
        cell("def helper(x):\n    return SCALE * answer(x)", locked=True, grade_id="helper"),
        cell("import math\ndef answer(x):\n    return x", solution=True, grade_id="answer"),
        cell("history = answer(3)\ntable = [SCALE]\ntable.append(4)", locked=True, grade_id="more"),
        cell("assert helper(1)", grade=True, locked=True, grade_id="test", points=1),
    ]
}  # fmt: skip


def test_answers_are_what_the_solutions_bind_imports_aside():
    assert Instructor(SOURCE).answers == {"answer"}
    assert Instructor(SOURCE).modules() == {"numpy", "math"}


@pytest.mark.parametrize(
    ("name", "binds"),
    [
        ("helper", [{"SCALE"}, {"helper"}]),
        ("np", [{"np"}]),
        ("math", [{"math"}]),
        ("table", [{"SCALE"}, {"table"}, set()]),
        ("history", []),  # it rests on what the student wrote
        ("answer", []),
    ],
)
def test_a_test_gets_the_instructors_statements_that_it_depends_on(name, binds):
    assert [set(tool.binds) for tool in Instructor(SOURCE).needed("test", {name}, {"math"})] == binds
