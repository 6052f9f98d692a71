"""A stack machine for pickles that can do nothing but put together plain data and tensors.

A pickle is a program that may import and call anything. This machine knows the instructions that
``torch.save`` writes for a state dictionary, and refuses all others. It imports nothing, calls
nothing, and never goes through the containers it fills, so that neither nesting nor references to
the same container over and over cost it more than the instruction does.

The instructions are described in Python's ``pickletools``, whose table is used here.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.importing.pickled_values import HoldsCodeError, Opaque, called, named, stored

MAX_INSTRUCTIONS = 2**20
_MAX_KEY = 2**60
_PLAIN_KEYS = {str, bytes, bool, float, type(None)}
_BY_CODE = {instruction.code.encode("latin-1"): instruction for instruction in pickletools.opcodes}


def read_pickle(content: bytes, source: object) -> Any:
    """What a pickle holds: None, numbers, texts, bytes, lists, tuples, dictionaries and tensors.

    Tensors and their storages are described, not read; see
    :mod:`CMBDetectorLib.importing.pickled_values`. Containers may hold themselves and be nested to
    any depth: do not go through them recursively, nor print or compare them.

    Parameters
    ----------
    content
        The whole pickle.
    source
        Named in errors; the file the pickle comes from.

    Raises
    ------
    ModelError
        If the pickle is damaged, has more than ``MAX_INSTRUCTIONS``, or needs a name or an
        instruction that plain data and tensors do not.
    """
    machine = _Machine(content)
    try:
        for _ in range(MAX_INSTRUCTIONS):
            if machine.step():
                return machine.result()
    except HoldsCodeError as error:
        raise ModelError(
            f"{source}: holds code: {ascii(str(error)[:120])[1:-1]}; expected tensors and plain "
            "values, nothing in a file is executed; save the state dictionary alone"
        ) from error
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(
            f"{source}: its pickle is damaged before byte {machine.stream.tell()}; get it again"
        ) from error
    raise ModelError(
        f"{source}: its pickle has more than {MAX_INSTRUCTIONS} instructions, too many for a state "
        "dictionary; save the state dictionary alone"
    )


class _Machine:
    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self) -> bool:
        """Carry out an instruction; whether it was the last."""
        instruction = _BY_CODE[self.stream.read(1)]
        if instruction.name == "STOP":
            return True
        if instruction.name not in _INSTRUCTIONS:
            raise HoldsCodeError(f"the instruction {instruction.name}")
        argument = None
        if instruction.arg is not None and instruction.name not in _NAMING:
            argument = instruction.arg.reader(self.stream)
        _INSTRUCTIONS[instruction.name](self, argument)
        return False

    def result(self) -> Any:
        if self.below_marks or len(self.stack) != 1:
            raise ValueError("not one result")
        return self.stack[0]

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def pop_last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def top(self, *types: type) -> Any:
        """The uppermost value, which has to be of one of these types."""
        value = self.stack[-1]
        if type(value) not in types:
            raise ValueError("another kind of value was expected")
        return value

    def line(self) -> str:
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise ValueError("a line does not end")
        return line[:-1].decode("utf-8")


def _append(machine: _Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.top(dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashes of large numbers can be made to collide, and those of tuples take their nesting.
        is_small = type(key) is int and abs(key) < _MAX_KEY
        if not is_small and type(key) not in _PLAIN_KEYS:
            raise HoldsCodeError(f"a dictionary with keys of type {type(key).__name__}")
        target[key] = value


def _mark(machine: _Machine, _: Any) -> None:
    machine.below_marks.append(machine.stack)
    machine.stack = []


def _name(machine: _Machine, _: Any) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(named(module, name))


def _refuse_instance(machine: _Machine, _: Any) -> None:
    raise HoldsCodeError(f"{machine.line()}.{machine.line()}")


def _call(machine: _Machine, _: Any) -> None:
    function, arguments = machine.pop_last(2)
    machine.stack.append(called(function, arguments))


def _build(machine: _Machine, _: Any) -> None:
    # The state of an OrderedDict is the versions of torch's modules; that of others is not needed.
    machine.stack.pop()
    machine.top(dict, Opaque)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


_Instruction = Callable[[_Machine, Any], None]


def _push(make: Callable[[_Machine, Any], Any]) -> _Instruction:
    def run(machine: _Machine, argument: Any) -> None:
        value = make(machine, argument)  # which may replace the stack
        machine.stack.append(value)

    return run


def _ignore(machine: _Machine, argument: Any) -> None:
    pass


_push_argument = _push(lambda _, argument: argument)
# The readers of pickletools would undo escapes in names, which pickle does not.
_NAMING = {"GLOBAL", "INST"}
_INSTRUCTIONS: dict[str, _Instruction] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "MARK": _mark,
    "NONE": _push(lambda *_: None),
    "NEWTRUE": _push(lambda *_: True),
    "NEWFALSE": _push(lambda *_: False),
    "BININT": _push_argument,
    "BININT1": _push_argument,
    "BININT2": _push_argument,
    "LONG1": _push_argument,
    "BINFLOAT": _push_argument,
    "BINUNICODE": _push_argument,
    "SHORT_BINUNICODE": _push_argument,
    "BINBYTES": _push_argument,
    "SHORT_BINBYTES": _push_argument,
    "EMPTY_DICT": _push(lambda *_: {}),
    "EMPTY_LIST": _push(lambda *_: []),
    "EMPTY_TUPLE": _push(lambda *_: ()),
    "TUPLE": _push(lambda machine, _: tuple(machine.pop_to_mark())),
    "TUPLE1": _push(lambda machine, _: tuple(machine.pop_last(1))),
    "TUPLE2": _push(lambda machine, _: tuple(machine.pop_last(2))),
    "TUPLE3": _push(lambda machine, _: tuple(machine.pop_last(3))),
    "APPEND": lambda machine, _: _append(machine, machine.pop_last(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: _set_items(machine, machine.pop_last(2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_to_mark()),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "BINGET": _push(lambda machine, index: machine.memo[index]),
    "LONG_BINGET": _push(lambda machine, index: machine.memo[index]),
    "GLOBAL": _name,
    "STACK_GLOBAL": _push(lambda machine, _: named(*machine.pop_last(2))),
    "INST": _refuse_instance,
    "BINPERSID": _push(lambda machine, _: stored(*machine.pop_last(1))),
    "REDUCE": _call,
    "BUILD": _build,
}
