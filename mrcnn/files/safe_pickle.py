"""Read pickles of unknown source: containers, numbers, text, and objects of an enumerated list.

A pickle is a program. Python's own `pickle` runs all of it: with every class refused
(`find_class`), a file of 300 kB still ends the process (the hash of a nested tuple overflows the C
stack) and one of 10 bytes still takes 16 GB (the number of a memo entry). This reader executes only
the instructions that arrays and their containers need, in Python, with a bounded number of steps. A
class or function of the file is a name; the caller's table says which own function stands for it.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .mapped_file import RefusedContent
from .safe_text import printable

MOST_STEPS = 500_000  # instructions; the pickle of a ResNet101's Mask R-CNN has 15,000
_CALL_STEPS = 10  # of a call, which costs more than other instructions
MOST_TEXT = 2**24  # bytes of all texts that are decoded
LONGEST_TEXT = 4096  # bytes; a longer one stays undecoded, it may hold the numbers of an array
_LONGEST_NAME = 200  # of a module, class or function
_KEY_BITS = 64  # of a number as a key: larger ones can be chosen to have equal hashes

_DAMAGE = (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error)


class Global(NamedTuple):
    """A class or function that a pickle names, "module.name"."""

    name: str


class LongText:
    """A text of more than `LONGEST_TEXT` bytes, not decoded."""

    def __init__(self, data: memoryview, encoding: str):
        self.data, self.encoding = data, encoding
        self._latin1: memoryview | None = None

    def latin1(self) -> memoryview:
        """The text in Latin-1: the bytes that Python 3 wrote as text (pickle protocols 0 to 2)."""
        if self.encoding == "latin1":
            return self.data
        if self._latin1 is None:  # once: an instruction of two bytes may ask for it
            self._latin1 = _utf8_to_latin1(self.data)
        return self._latin1


class Buildable:
    """An object of an own class that accepts the state that a pickle holds for it."""

    def build(self, state: Any) -> None:
        """Accept the state.

        Raises:
            RefusedContent: not a state of this object.
        """
        raise NotImplementedError


class Ignored(Buildable):
    """An object without any use here, such as the options of a training script."""

    def build(self, state: Any) -> None:
        pass


# "module.name" -> own function for a call; None for a name that may only be an argument.
Table = Mapping[str, Callable[..., Any] | None]


def ordered_dict(items: Any = ()) -> dict:
    """Return the dict of the pairs of an OrderedDict or a Counter."""
    if isinstance(items, dict):
        return items
    return {_checked_key(key): value for key, value in items}


def encoded(text: Any, encoding: Any) -> bytes | memoryview:
    """Return the bytes that Python 3 pickled as text: `_codecs.encode(text, "latin1")`."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedContent("which encodes text in another way than Latin-1")
    return latin1_bytes(text)


def latin1_bytes(value: Any) -> bytes | memoryview:
    """Return the bytes of a pickled value: bytes, or text that stands for bytes.

    Raises:
        RefusedContent: neither bytes nor text of characters below 256.
    """
    try:
        if isinstance(value, memoryview | bytes):
            return value
        if isinstance(value, LongText):
            return value.latin1()
        if isinstance(value, str):
            return value.encode("latin1")
    except UnicodeError as error:
        raise RefusedContent("with text where an array's bytes are expected") from error
    raise RefusedContent("with an array that has no bytes")


def _utf8_to_latin1(data: memoryview) -> memoryview:
    """Encode piece by piece: a text in memory may take four times its bytes in the file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoded = bytearray()
    for start in range(0, len(data), 2**20):
        piece = decoder.decode(data[start : start + 2**20], final=start + 2**20 >= len(data))
        encoded += piece.encode("latin1")
    return memoryview(encoded).toreadonly()


CONTAINERS: Table = {
    "collections.OrderedDict": ordered_dict,
    "collections.Counter": ordered_dict,
    "_codecs.encode": encoded,
    "argparse.Namespace": lambda *_: Ignored(),
}


class Loaded(NamedTuple):
    """The object of a pickle, and the position behind the pickle."""

    value: Any
    end: int


def load(
    data: memoryview,
    table: Table,
    persistent_load: Callable[[Any], Any] | None = None,
    start: int = 0,
    most_steps: int = MOST_STEPS,
) -> Loaded:
    """Read one pickle.

    data: bytes of the file; bytes in the pickle are views of these.
    table: the classes and functions that may occur.
    persistent_load: returns the object of a persistent id; by default there must be none.
    start: position of the pickle in `data`.
    most_steps: number of instructions, with a call counted as several.

    Raises:
        RefusedContent: a damaged pickle, one of too many steps, or anything not in the table.
    """
    machine = _Machine(data, table, persistent_load, start, most_steps)
    try:
        return Loaded(machine.run(), machine.position)
    except RefusedContent:
        raise
    except _DAMAGE as error:
        raise RefusedContent(f"whose pickle is damaged at byte {machine.position:,}") from error


class _Machine:
    """The stack machine that a pickle is a program for (Lib/pickletools.py describes it)."""

    def __init__(self, data, table, persistent_load, start, most_steps):
        self.data, self.table, self.persistent_load = data, table, persistent_load
        self.position, self.most_steps = start, most_steps
        self.stack: list = []
        self.marks: list[list] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.text_bytes = 0

    def run(self) -> Any:
        while True:
            self.spend_steps(1)
            code = self.data[self.position]
            self.position += 1
            if code == pickle.STOP[0]:
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise RefusedContent(
                    f"whose pickle has the instruction {code:#04x} at byte {self.position - 1:,}, "
                    "which arrays do not need",
                    "a file of a newer version, or one that torch.save wrote",
                )
            instruction(self)

    def spend_steps(self, count: int) -> None:
        self.steps += count
        if self.steps > self.most_steps:
            raise RefusedContent(
                f"whose pickle has more than {self.most_steps:,} instructions",
                "a file that holds only the state dict of the network",
            )

    def spend_text(self, size: int) -> None:
        self.text_bytes += size
        if self.text_bytes > MOST_TEXT:
            raise RefusedContent(f"whose pickle has more than {MOST_TEXT:,} bytes of text")

    # --- Reading ---

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            claim = f"{count:,} bytes, of which the file holds {len(self.data) - self.position:,}"
            raise RefusedContent(f"whose pickle is cut off: it claims {claim}")
        view = self.data[self.position : end]
        self.position = end
        return view

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> str:
        text, newline, _ = bytes(self.data[self.position :][: _LONGEST_NAME + 1]).partition(b"\n")
        if not newline:
            raise RefusedContent("whose pickle names a class without an end")
        self.position += len(text) + 1
        return text.decode()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list:
        """The objects above the last mark, which leave the stack."""
        above = self.stack
        self.stack = self.marks.pop()
        return above

    # --- Instructions ---

    def skip(self, size: int) -> None:
        self.take(size)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def text(self, size: int, encoding: str) -> None:
        data = self.take(self.number(size))
        if len(data) > LONGEST_TEXT:
            self.push(LongText(data, encoding))
            return
        self.spend_text(len(data))
        self.push(str(data, encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def bytes_(self, size: int) -> None:
        self.push(self.take(self.number(size)))

    def long(self) -> None:
        self.push(self.number(self.number(1), signed=True))

    def float_(self) -> None:
        self.push(struct.unpack(">d", self.take(8))[0])

    def tuple_(self, size: int) -> None:
        items = tuple(self.stack[-size:])
        if len(items) < size:
            raise IndexError
        del self.stack[-size:]
        self.push(items)

    def append(self) -> None:
        value = self.stack.pop()
        self.extend([value])

    def appends(self) -> None:
        self.extend(self.pop_mark())

    def extend(self, values: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise RefusedContent("whose pickle appends to something that is not a list")
        target.extend(values)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def set_items(self) -> None:
        self.update(self.pop_mark())

    def dict_(self) -> None:
        items = self.pop_mark()
        self.push({})
        self.update(items)

    def update(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedContent("whose pickle sets an item of something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def put(self, size: int) -> None:
        self.memo[self.number(size)] = self.stack[-1]

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, size: int) -> None:
        self.push(self.memo[self.number(size)])

    def global_(self) -> None:
        module, name = self.line(), self.line()
        self.push_global(module, name)

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push_global(module, name)

    def push_global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise RefusedContent("whose pickle names a class by something that is not text")
        full = f"{module}.{name}"
        if full not in self.table:
            raise RefusedContent(
                f"whose pickle asks for {printable(full)!r}, which is not on the list of "
                "functions that make arrays",
                "a file from a source that you trust, saved as torch.save(model.state_dict(), "
                "path) or as .safetensors",
            )
        self.push(Global(full))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        own = self.table[function.name] if isinstance(function, Global) else None
        if own is None or not isinstance(arguments, tuple):
            raise RefusedContent("whose pickle calls something that is not a function")
        self.spend_steps(_CALL_STEPS)
        for argument in arguments:  # a few bytes of the file may pass a long one again and again
            if isinstance(argument, list):
                self.spend_steps(len(argument))
            elif isinstance(argument, str):
                self.spend_text(len(argument))
        self.push(own(*arguments))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict):  # attributes of an OrderedDict: versions of modules
            raise RefusedContent("whose pickle sets attributes of something that has none")

    def persistent_id(self) -> None:
        if self.persistent_load is None:
            raise RefusedContent("whose pickle takes data from outside of the file")
        self.push(self.persistent_load(self.stack.pop()))


def _checked_key(key: Any) -> str | int:
    """A key of a dict: the hash of a nested tuple can take for ever, or end the process."""
    if isinstance(key, str) or (isinstance(key, int) and key.bit_length() <= _KEY_BITS):
        return key
    raise RefusedContent("whose pickle has a dict with keys that are neither text nor numbers")


def _constant(value: Any) -> Callable[[_Machine], object]:
    return lambda machine: machine.push(value)


_INSTRUCTIONS: dict[int, Callable[[_Machine], object]] = {
    pickle.PROTO[0]: lambda machine: machine.skip(1),
    pickle.FRAME[0]: lambda machine: machine.skip(8),
    pickle.MARK[0]: _Machine.mark,
    pickle.POP[0]: _Machine.pop,
    pickle.POP_MARK[0]: _Machine.pop_mark,
    pickle.NONE[0]: _constant(None),
    pickle.NEWTRUE[0]: _constant(True),
    pickle.NEWFALSE[0]: _constant(False),
    pickle.BININT[0]: lambda machine: machine.push(machine.number(4, signed=True)),
    pickle.BININT1[0]: lambda machine: machine.push(machine.number(1)),
    pickle.BININT2[0]: lambda machine: machine.push(machine.number(2)),
    pickle.LONG1[0]: _Machine.long,
    pickle.BINFLOAT[0]: _Machine.float_,
    pickle.SHORT_BINUNICODE[0]: lambda machine: machine.text(1, "utf-8"),
    pickle.BINUNICODE[0]: lambda machine: machine.text(4, "utf-8"),
    pickle.BINUNICODE8[0]: lambda machine: machine.text(8, "utf-8"),
    pickle.SHORT_BINSTRING[0]: lambda machine: machine.text(1, "latin1"),
    pickle.BINSTRING[0]: lambda machine: machine.text(4, "latin1"),
    pickle.SHORT_BINBYTES[0]: lambda machine: machine.bytes_(1),
    pickle.BINBYTES[0]: lambda machine: machine.bytes_(4),
    pickle.BINBYTES8[0]: lambda machine: machine.bytes_(8),
    pickle.BYTEARRAY8[0]: lambda machine: machine.bytes_(8),
    pickle.EMPTY_TUPLE[0]: _constant(()),
    pickle.TUPLE1[0]: lambda machine: machine.tuple_(1),
    pickle.TUPLE2[0]: lambda machine: machine.tuple_(2),
    pickle.TUPLE3[0]: lambda machine: machine.tuple_(3),
    pickle.TUPLE[0]: lambda machine: machine.push(tuple(machine.pop_mark())),
    pickle.EMPTY_LIST[0]: lambda machine: machine.push([]),
    pickle.LIST[0]: lambda machine: machine.push(machine.pop_mark()),
    pickle.APPEND[0]: _Machine.append,
    pickle.APPENDS[0]: _Machine.appends,
    pickle.EMPTY_DICT[0]: lambda machine: machine.push({}),
    pickle.DICT[0]: _Machine.dict_,
    pickle.SETITEM[0]: _Machine.set_item,
    pickle.SETITEMS[0]: _Machine.set_items,
    pickle.BINPUT[0]: lambda machine: machine.put(1),
    pickle.LONG_BINPUT[0]: lambda machine: machine.put(4),
    pickle.MEMOIZE[0]: _Machine.memoize,
    pickle.BINGET[0]: lambda machine: machine.get(1),
    pickle.LONG_BINGET[0]: lambda machine: machine.get(4),
    pickle.GLOBAL[0]: _Machine.global_,
    pickle.STACK_GLOBAL[0]: _Machine.stack_global,
    pickle.REDUCE[0]: _Machine.reduce,
    pickle.NEWOBJ[0]: _Machine.reduce,
    pickle.BUILD[0]: _Machine.build,
    pickle.BINPERSID[0]: _Machine.persistent_id,
}
