"""Published pickles, read without unpickling: nothing that a file names is looked up, called or built by Python.

A pickle is a program for a stack machine. Even an unpickler that admits NumPy's constructors alone can be made to run
code, so the opcodes are interpreted here (Python's `pickletools` decodes them), and they build containers, numbers,
text, bytes, and arrays of numbers or text from their raw bytes. Every size is checked against the bytes at hand.
All protocols, and files of Python 2 and of NumPy 1, are read.
"""

from __future__ import annotations

import codecs
import math
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.arrays import check_text
from concordant.errors import DataError, quoted
from concordant.files import reading

_DEEPEST = 100  # containers within each other
_SPARE = 1 << 20  # bytes that any file may build beyond `_GROWTH` times its own
_GROWTH = 4  # copies of what a file holds once
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_TYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|12|16)|c(8|16)|[SU]\d{1,9}|O[48]?")
_OUTSIDE = ("PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER")
# Opcodes whose argument is a number, text or bytes.
_PUSHED = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_PUSHED |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_PUSHED |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MODULES = {  # names of NumPy 1 and Python 2
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
    "numpy._core._multiarray_umath": "numpy._core.multiarray",
    "numpy.core._multiarray_umath": "numpy._core.multiarray",
    "__builtin__": "builtins",
}


def read_pickle(path: Path | str) -> Any:  # noqa: ANN401 - the content of the file
    """Return the content of a pickle: arrays, dictionaries, lists, tuples, sets, strings, bytes and numbers.

    Byte strings of Python 2 become text, byte for byte (latin-1).

    Raises:
        DataError: it is absent, truncated or not a pickle, names something that data do not need, contains itself, or
            is far larger with its shared values written out than the file is.
    """
    file = Path(path)
    with reading(file, "a pickle", "name the pickle that was published") as size, file.open("rb") as opened:
        try:
            return _Machine(_Bytes(opened, size), size).run()
        except _RefusedError as error:
            raise DataError(f"{file}: the pickle is refused: {error}") from None


class _RefusedError(Exception):
    """A pickle does something else than make data."""


class _Bytes:
    """The file as `pickletools` reads it, which never asks for more bytes than there are."""

    def __init__(self, opened: IO[bytes], size: int) -> None:
        self._opened, self._left = opened, size

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self._left:
            raise ValueError(f"it is truncated or forged: it announces {count} bytes, which are not there")
        self._left -= count
        return self._opened.read(count)

    def readline(self) -> bytes:
        line = self._opened.readline(self._left)
        self._left -= len(line)
        return line


class _Name:
    """A name that a pickle asks for; only `_CALLS` says what becomes of it."""

    def __init__(self, module: str, name: str) -> None:
        self.full = f"{_MODULES.get(module, module)}.{name}"
        if self.full not in _CALLS:
            raise _RefusedError(
                f"it asks for {module}.{name}, which data do not need; nothing of it was run. Save its arrays "
                "with numpy.savez where it was made"
            )


class _Type:
    """A plain type of an array: numbers, text, or references to values of the pickle."""

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise _RefusedError(f"{quoted(code)} is no type of an array of numbers or text")
        self.code, self.order = code, "="

    def build(self, state: object) -> None:
        """Take the byte order of a state, which must not change anything else."""
        order = state[1] if isinstance(state, tuple) and len(state) in (8, 9) else None
        if not isinstance(state, tuple) or order not in ("<", ">", "|", "=") or any(x is not None for x in state[2:5]):
            raise _RefusedError("it makes a type of an array in another way than NumPy does")
        self.order = order

    def plain(self) -> np.dtype[Any]:
        """Return the type of NumPy; raises DataError for references, which are not made of bytes."""
        if self.code.startswith("O"):
            raise _RefusedError("it makes an array of objects out of bytes")
        return np.dtype(self.order + self.code)


class _Machine:
    """Interprets the opcodes of one pickle, of a file of so many bytes."""

    def __init__(self, data: _Bytes, size: int) -> None:
        self.data, self.most = data, _GROWTH * size + _SPARE
        self.spent = 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self.blank: dict[int, NDArray[Any]] = {}  # arrays whose state is still to come

    def run(self) -> Any:  # noqa: ANN401
        while True:
            opcode = _OPCODES.get(self.data.read(1))
            if opcode is None:
                raise ValueError("it is no pickle: a byte is no opcode")
            if opcode.name == "STOP":
                value = self.stack.pop()
                _check_whole(value, self.most)
                return value
            self.step(opcode.name, self.argument(opcode))

    def argument(self, opcode: pickletools.OpcodeInfo) -> Any:  # noqa: ANN401
        if opcode.arg is None:
            return None
        if opcode.name != "STRING":
            return opcode.arg.reader(self.data)  # type: ignore[arg-type]
        text = self.data.readline().rstrip(b"\r\n")  # of Python 2, quoted; pickletools reads ASCII alone
        if len(text) < 2 or text[:1] not in b"\"'" or text[-1:] != text[:1]:
            raise ValueError("it is no pickle: a string has no quotes")
        return codecs.escape_decode(text[1:-1])[0].decode("latin1")

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401
        """Carry out one opcode."""
        stack = self.stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _VALUES or name in _EMPTY:
            stack.append(_VALUES[name] if name in _VALUES else _EMPTY[name]())
        elif name == "MARK":
            self.marked.append(stack)
            self.stack = []
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("LIST", "TUPLE", "DICT", "FROZENSET", "POP_MARK", "APPENDS", "SETITEMS", "ADDITEMS"):
            self.stack, items = self.marked.pop(), stack
            self.gather(name, items)
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("APPEND", "SETITEM"):
            count = 1 if name == "APPEND" else 2
            items = stack[-count:]
            del stack[-count:]
            self.gather(f"{name}S", items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, name = argument.split(" ") if argument is not None else (stack.pop(-2), stack.pop())
            stack.append(_Name(module, name))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, _Name) or not isinstance(arguments, tuple):
                raise _RefusedError("it calls something that is no function of a pickle")
            stack.append(_CALLS[function.full](self, *arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.build(stack[-1], state)
        elif name in ("PROTO", "FRAME"):
            if name == "FRAME" or argument <= 5:
                return
            raise ValueError(f"it is of protocol {argument}; 0 to 5 are read")
        elif name in ("POP", "DUP"):
            stack.pop() if name == "POP" else stack.append(stack[-1])
        elif name in _OUTSIDE:
            what = argument if argument is not None else stack[-1] if stack else name
            raise _RefusedError(f"it refers to {quoted(what)} outside itself")
        else:
            raise _RefusedError(f"it holds the opcode {name}, which data do not need")

    def gather(self, name: str, items: list[Any]) -> None:
        """Make a container of items, or add them to the one on the stack."""
        if name in ("LIST", "TUPLE"):
            self.stack.append(items if name == "LIST" else tuple(items))
        elif name == "FROZENSET":
            self.stack.append(frozenset(map(_key, items)))
        elif name != "POP_MARK":
            if name == "DICT":
                self.stack.append({})
            held = self.stack[-1]
            if name == "APPENDS" and type(held) is list:
                held += items
            elif name == "ADDITEMS" and type(held) is set:
                held.update(map(_key, items))
            elif name in ("DICT", "SETITEMS") and isinstance(held, dict):
                held.update(zip(map(_key, items[::2]), items[1::2], strict=True))
            else:
                raise _RefusedError(f"it adds to {type(held).__name__} in another way than Python does")

    def spend(self, count: int) -> None:
        """Count bytes that a call makes anew, of which the same few in the file could make any number."""
        self.spent += count
        if self.spent > self.most:
            raise _RefusedError(f"it makes more than {self.most:,} bytes out of fewer")

    def build(self, target: Any, state: Any) -> None:  # noqa: ANN401
        """Give an array or a type its state."""
        if isinstance(target, _Type):
            target.build(state)
            return
        if self.blank.pop(id(target), None) is None or not isinstance(state, tuple) or len(state) != 5:
            self.other_array()
        _, shape, kind, fortran, data = state
        if isinstance(data, list) and isinstance(kind, _Type) and kind.code.startswith("O"):
            dtype, found = np.dtype(object), len(data)
            self.spend(8 * found)
        else:
            dtype, data = _plain(kind), _raw(data)
            found = len(data)
            check_text(dtype, data)
        _check_shape(shape, 1 if dtype.kind == "O" else dtype.itemsize, found)
        # NumPy's own method, given a plain type, whole numbers and as many bytes as they ask for.
        target.__setstate__((1, shape, dtype, bool(fortran), data if dtype.kind == "O" else bytes(data)))

    def empty_array(self, kind: object, shape: object, code: object) -> NDArray[Any]:
        if not isinstance(kind, _Name) or kind.full != "numpy.ndarray" or shape != (0,):
            self.other_array()
        made = np.ndarray((0,), "b")
        self.blank[id(made)] = made
        return made

    def other_array(self, *_: object) -> None:
        raise _RefusedError("it makes an array in another way than NumPy does")

    def from_buffer(self, data: object, kind: object, shape: object, order: object = "C") -> NDArray[Any]:
        dtype, raw = _plain(kind), _raw(data)
        _check_shape(shape, dtype.itemsize, len(raw))
        self.spend(len(raw))
        check_text(dtype, raw)
        made = np.frombuffer(raw, dtype) if raw else np.zeros(0, dtype)
        return made.reshape(shape, order="F" if order == "F" else "C")  # type: ignore[call-overload,no-any-return]

    def scalar(self, kind: object, data: object) -> Any:  # noqa: ANN401
        dtype, raw = _plain(kind), _raw(data)
        _check_shape((), dtype.itemsize, len(raw))
        self.spend(len(raw))
        check_text(dtype, raw)
        return np.frombuffer(raw, dtype)[0] if raw else dtype.type()

    def encode(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise _RefusedError("it writes bytes in another way than Python does")
        self.spend(len(text))
        return text.encode("latin1")

    def container(self, kind: Callable[..., Any], items: Any = (), *more: object) -> Any:  # noqa: ANN401
        """Return a container of the items of another; of a number it would have that many bytes."""
        bare = kind in (bytes, bytearray)
        if more or not isinstance(items, (bytes, list, tuple) if bare else (list, tuple)):
            raise _RefusedError("it makes a container in another way than Python does")
        self.spend(8 * len(items))
        if kind in (set, frozenset):
            return kind(map(_key, items))
        pairs: Any = items
        return kind([(_key(key), value) for key, value in pairs] if kind in (dict, OrderedDict) else items)


def _call(kind: Callable[..., Any]) -> Callable[..., Any]:
    return lambda machine, *items: machine.container(kind, *items)


_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Machine.other_array,
    "numpy.dtype": lambda _, code, align=False, copy=False: _Type(code),
    "numpy._core.multiarray._reconstruct": _Machine.empty_array,
    "numpy._core.multiarray.scalar": _Machine.scalar,
    "numpy._core.numeric._frombuffer": _Machine.from_buffer,
    "_codecs.encode": _Machine.encode,
    "collections.OrderedDict": _call(OrderedDict),
    **{f"builtins.{kind.__name__}": _call(kind) for kind in (set, frozenset, bytearray, bytes, list, dict, tuple)},
}


def _key(value: Any) -> Any:  # noqa: ANN401
    """Return a key of a dictionary or a member of a set: text or a number, whose hash takes no time."""
    plain = isinstance(value, (str, bytes, bool, np.str_)) or value is None
    if not plain and not (isinstance(value, (int, float)) and abs(value) < 1 << 60):
        raise _RefusedError(f"a key of a dictionary or a set must be text or a number; found {quoted(value)}")
    return value


def _plain(kind: object) -> np.dtype[Any]:
    if not isinstance(kind, _Type):
        raise _RefusedError("it makes an array of no known type")
    return kind.plain()


def _raw(data: object) -> bytes | bytearray:
    """Return the bytes of an array; files of Python 2 hold them as text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise _RefusedError(f"it makes an array of {type(data).__name__}, not of bytes")
    return data


def _check_shape(shape: object, size: int, there: int) -> None:
    """Refuse a shape that does not take exactly the bytes at hand."""
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise _RefusedError(f"an array must have a shape of whole numbers; found {quoted(shape)}")
    if math.prod(shape) * size != there or (size == 0 and math.prod(shape) > 1):
        raise _RefusedError(f"an array of shape {quoted(shape)} needs {math.prod(shape) * size} bytes; found {there}")


def _members(value: Any) -> Iterable[Any] | None:  # noqa: ANN401
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype == object else None
    return value if isinstance(value, (list, tuple, set, frozenset)) else None


def _weight(leaf: Any) -> int:  # noqa: ANN401
    """Return the bytes of a value without members."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return 8 + leaf.nbytes
    if isinstance(leaf, (str, bytes, bytearray)):
        return 8 + len(leaf)
    if leaf is None or isinstance(leaf, (bool, int, float)):
        return 8
    raise _RefusedError(f"it holds {type(leaf).__name__.strip('_').lower()} in place of data")


def _check_whole(whole: Any, most: int) -> None:  # noqa: ANN401
    """Refuse content that contains itself, is too deep, or too large with its shared values written out."""
    found: dict[int, int] = {}  # container -> its bytes, written out
    path: list[tuple[Any, list[Any]]] = []  # containers that are open, with the members that are still to come
    inside: set[int] = set()
    total, waiting = 0, [whole]
    while True:
        if waiting:
            one = waiting.pop()
            members = _members(one)
            if members is None:
                total += _weight(one)
            elif id(one) in inside:
                raise _RefusedError("a container of it contains itself")
            elif id(one) in found:
                total += found[id(one)]
            else:
                path.append((one, waiting))
                inside.add(id(one))
                found[id(one)] = -total
                waiting, total = list(members), total + 8
            if total > 16 * most or len(path) > _DEEPEST:
                limits = f"{_DEEPEST} levels and {most:,} bytes"
                raise _RefusedError(f"it is deeper or, with its shared values written out, larger than {limits}")
        elif path:
            one, waiting = path.pop()
            inside.discard(id(one))
            found[id(one)] += total
        else:
            return
