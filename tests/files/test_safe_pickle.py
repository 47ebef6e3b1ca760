"""Pickles of unknown source: containers and the functions of a table, within bounds."""

import argparse
import os
import pickle
import struct
import time
import tracemalloc
from collections import Counter, OrderedDict

import pytest

from mrcnn.files import safe_pickle
from mrcnn.files.mapped_file import RefusedContent
from mrcnn.files.safe_pickle import CONTAINERS, Ignored, LongText, load

PLAIN = {
    "numbers": [0, 255, 256, -1, 2**31, -(2**40), 2**100, 1.5, True, False, None],
    "texts": ["", "a", "ü☃", "x" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "dicts": {1: {}, "a": {"b": []}},
}


def read(data, table=CONTAINERS, **options):
    return load(memoryview(data), table, **options).value


class Call:
    """Pickled as the call of a function, as an attacker writes it."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_numbers_and_texts(protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_shared_and_recursive_containers_stay_shared(protocol):
    inner: list = []
    inner.append(inner)
    first, second = read(pickle.dumps([inner, inner], protocol))
    assert first is second and first[0] is first


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dict_and_counter_are_dicts_and_a_namespace_is_ignored(protocol):
    weights = OrderedDict(a=1)
    weights._metadata = {"": {"version": 2}}
    saved = [weights, Counter([3, 3]), argparse.Namespace(lr=0.1)]
    first, second, third = read(pickle.dumps(saved, protocol))
    assert first == {"a": 1} and second == {3: 2} and isinstance(third, Ignored)
    assert type(first) is type(second) is dict


def test_ordered_dict_of_python_2():
    # OrderedDict([["a", 1]])
    data = b"\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R."
    assert read(data) == {"a": 1}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_bytes_of_python_3_are_bytes_in_every_protocol(protocol):
    short, long = bytes(range(256)), bytes(range(256)) * 64
    values = read(pickle.dumps([short, long], protocol))
    assert [bytes(safe_pickle.latin1_bytes(value)) for value in values] == [short, long]


def test_long_bytes_are_a_view_of_the_file():
    data = memoryview(pickle.dumps(b"x" * 100_000, 4))
    assert load(data, {}).value.obj is data.obj


def test_long_text_stays_undecoded():
    value = read(pickle.dumps("ü" * 5000, 4))
    assert isinstance(value, LongText) and bytes(value.latin1()) == b"\xfc" * 5000
    assert value.latin1() is value.latin1()


def test_end_is_the_start_of_the_next_pickle():
    data = memoryview(pickle.dumps(1, 2) + pickle.dumps(2, 2))
    first = load(data, {})
    assert (first.value, load(data, {}, start=first.end).value) == (1, 2)


def test_the_table_of_containers():
    assert sorted(CONTAINERS) == [
        "_codecs.encode",
        "argparse.Namespace",
        "collections.Counter",
        "collections.OrderedDict",
    ]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "touch pwned"), "system"),
        (Call(eval, "1"), "eval"),
        (Call(exec, "1"), "exec"),
        (Call(getattr, os, "system"), "getattr"),
        (Call(getattr, {}, "__class__"), "getattr"),
        (Call(__import__, "os"), "__import__"),
        (Call(open, "pwned", "w"), "open"),
        (Call(bytearray, 10**10), "bytearray"),
        (Call(argparse.ArgumentParser), "ArgumentParser"),
    ],
)
def test_function_outside_the_table_is_refused_by_name(call, name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps(call, protocol)
    except TypeError:  # a module cannot be pickled; a pickle can ask for one by its attributes
        data = b"\x80\x02c" + b"builtins\ngetattr\ncos\n__dict__\nU\x06system\x86R."
    with pytest.raises(RefusedContent, match=f"asks for '[a-z_.]*{name}', which is not on the"):
        read(data)
    assert not os.listdir(tmp_path)


def test_dotted_name_does_not_reach_through_an_allowed_module():
    data = b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__init__.__\x93."
    with pytest.raises(RefusedContent, match="asks for 'collections.OrderedDict.__init__.__'"):
        read(data)


def test_names_are_printed_without_control_characters():
    with pytest.raises(RefusedContent, match=r"asks for 'a \[31m.b'"):
        read(b"\x80\x02ca\x1b[31m\nb\n.")


def text(value):
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


ORDERED_DICT = b"ccollections\nOrderedDict\n"
HOSTILE = {
    "empty": b"",
    "no stop": b"\x80\x02N",
    "empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "short tuple": b"\x80\x02N\x86.",
    "unknown memo entry": b"\x80\x02h\x07.",
    "claims 4 GB of text": b"\x80\x02X\xff\xff\xff\xffabc.",
    "claims 10 GB of bytes": b"\x80\x05\x8e" + struct.pack("<Q", 10**10) + b"abc.",
    "claims 10 GB of bytearray": b"\x80\x05\x96" + struct.pack("<Q", 10**10) + b"abc.",
    "claims 2**64 bytes": b"\x80\x05\x96" + b"\xff" * 8 + b"abc.",
    "frame": b"\x80\x04\x95" + b"\xff" * 8 + b"abc.",
    "number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "tuple as a key": b"\x80\x02})N" + b"s.",
    "nested tuple as a key": b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.",
    "doubled tuple as a key": b"\x80\x02})" + b"q\x00h\x00\x86" * 100 + b"Ns.",
    "keys of equal hashes": b"\x80\x02}\x8a\x0a"
    + (2**61 - 1 << 10).to_bytes(10, "little")
    + b"Ns.",
    "odd items": b"\x80\x02}(Nu.",
    "item of a list": b"\x80\x02](NNu.",
    "append to a dict": b"\x80\x02}Na.",
    "call of text": b"\x80\x02U\x06systemU\x02ls\x85R.",
    "call without a tuple": b"\x80\x02" + ORDERED_DICT + b"]R.",
    "call of a result": b"\x80\x02" + ORDERED_DICT + b")R)R.",
    "wrong arguments": b"\x80\x02" + ORDERED_DICT + b"NN\x86R.",
    "pairs of three": b"\x80\x02" + ORDERED_DICT + b"](NNN\x87e\x85R.",
    "attributes of a function": b"\x80\x02" + ORDERED_DICT + b"}U\x0c__defaults__Nsb.",
    "attributes of a list": b"\x80\x02]}b.",
    "name that is not text": b"\x80\x04NN\x93.",
    "name without an end": b"\x80\x02c" + b"a" * 1000,
    "persistent id": b"\x80\x02NQ.",
    "textual persistent id": b"\x80\x02Pabc\n.",
    "registered extension": b"\x80\x02\x82\x01.",
    "instance": b"\x80\x02(ios\nsystem\n.",
    "object": b"\x80\x02(cos\nsystem\no.",
    "set": b"\x80\x04\x8f.",
    "outside buffer": b"\x80\x05\x97.",
    "bad text": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "other encoding": b"\x80\x02c_codecs\nencode\nU\x01aU\x03rot\x86R.",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickle_is_refused_at_once_and_in_little_memory(data):
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(RefusedContent, match="must hold arrays.* Received: a file .* Try "):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 20


def test_functions_of_the_table_keep_their_attributes():
    before = safe_pickle.ordered_dict.__defaults__
    data = b"\x80\x02" + ORDERED_DICT + b"N}U\x0c__defaults__Ns\x86b."
    with pytest.raises(RefusedContent, match="sets attributes of something that has none"):
        read(data)
    assert safe_pickle.ordered_dict.__defaults__ == before


def test_distant_memo_entry_takes_no_memory():
    tracemalloc.start()
    assert read(b"\x80\x02Nr\xff\xff\xff\xff.") is None
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x80\x02" + b"]" * 600_000 + b".", "more than 500,000 instructions"),
        (b"\x80\x02(" + b"N0" * 300_000 + b"t.", "more than 500,000 instructions"),
        # a list of 1,000 pairs, 1,000 times the argument of a call
        (
            b"\x80\x02" + ORDERED_DICT + b"q\x00](" + b"K\x01N\x86" * 1000 + b"e\x85q\x01"
            b"(" + b"h\x00h\x01R" * 1000 + b"t.",
            "more than 500,000 instructions",
        ),
        # 4,000 bytes that a few instructions encode again and again
        (
            b"\x80\x02c_codecs\nencode\nq\x00" + text("a" * 4000) + text("latin1") + b"\x86q\x01"
            b"(" + b"h\x00h\x01R" * 30_000 + b"t.",
            "more than 16,777,216 bytes of text",
        ),
        (b"\x80\x04(" + (text("☃" * 1300) + b"0") * 5000 + b"t.", "bytes of text"),
    ],
    ids=["stack", "steps", "long argument", "long text", "texts"],
)
def test_amplified_work_is_bounded(data, what):
    tracemalloc.start()
    with pytest.raises(RefusedContent, match=what):
        read(data)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_deep_nesting_overflows_no_stack():
    value = read(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    assert len(value) == 1


def test_steps_may_be_limited():
    with pytest.raises(RefusedContent, match="more than 3 instructions"):
        read(pickle.dumps([1, 2, 3], 2), most_steps=3)
