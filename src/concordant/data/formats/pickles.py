"""Published pickles, read without running the code that they may contain; `read_pickle` is the only entry point.

A pickle is a program. Its opcodes are scanned before it is loaded: lengths must fit the file and the memo must not
grow beyond the entries put into it, which keeps a small file from causing a huge allocation. During loading, the only
names available are those that NumPy arrays and plain containers need, bound to functions of this module that build
nothing else. Files of Python 2 and of NumPy 1 are read as well.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from concordant.errors import DataError

_CHUNK = 1 << 16
# Opcodes whose argument is counted, and the bytes of the count.
_COUNTED = {
    "BINSTRING": 4,
    "SHORT_BINSTRING": 1,
    "BINUNICODE": 4,
    "SHORT_BINUNICODE": 1,
    "BINUNICODE8": 8,
    "BINBYTES": 4,
    "SHORT_BINBYTES": 1,
    "BINBYTES8": 8,
    "BYTEARRAY8": 8,
    "LONG1": 1,
    "LONG4": 4,
}
_LINES = ("INT", "LONG", "STRING", "UNICODE", "FLOAT", "PERSID", "GET", "PUT")
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_LONGEST_LINE = 1 << 20


def read_pickle(path: Path | str) -> Any:  # noqa: ANN401 - the content of the file
    """Return the content of a pickle: arrays, dictionaries, lists, tuples, sets, strings, bytes and numbers.

    Protocols 0 to 5. Byte strings of Python 2 become text, byte for byte (latin-1).

    Args:
        path: the file.

    Raises:
        DataError: it is absent, truncated or not a pickle, or names something that data do not need.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            _scan(opened, file)
            opened.seek(0)
            return _Restricted(opened, fix_imports=True, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); name the pickle that was published") from None
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{file} does not fit into memory; use a machine with more of it") from None
    except Exception as error:
        raise DataError(f"{file} is no pickle that can be read ({type(error).__name__}: {error})") from None


def _scan(opened: IO[bytes], file: Path) -> None:
    """Check the opcodes of a pickle, skipping their arguments.

    Raises:
        DataError: an opcode is unknown, its argument exceeds the file, or it writes far beyond the end of the memo.
    """
    size = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    puts = 0
    while True:
        place = opened.tell()
        code = opened.read(1)
        opcode = _OPCODES.get(code)
        if not code:
            raise DataError(f"{file} is truncated: it ends after {place} bytes without the end of a pickle")
        if opcode is None:
            raise DataError(f"{file} is no pickle: byte {place} is {code!r}, which is no opcode")
        if opcode.name == "STOP":
            return
        argument = _argument(opened, opcode, size, file, place)
        if opcode.name in _PUTS:
            puts += 1
            # Memo entries count up by one; a leap would make the reader allocate everything in between.
            if argument is not None and not 0 <= argument <= 2 * puts + 1024:
                raise DataError(f"{file} is refused: byte {place} asks for a memo of {argument} entries after {puts}")


def _argument(opened: IO[bytes], opcode: pickletools.OpcodeInfo, size: int, file: Path, place: int) -> int | None:
    """Skip the argument of an opcode; return the memo entry that it writes, or None."""
    name = opcode.name
    if name in _COUNTED:
        length = int.from_bytes(opened.read(_COUNTED[name]), "little", signed=name == "LONG4")
        if not 0 <= length <= size - opened.tell():
            raise DataError(
                f"{file} is truncated or forged: byte {place} announces {length} bytes, which are not there"
            )
        opened.seek(length, io.SEEK_CUR)
        return None
    if name in _LINES:
        line = _line(opened, file, place)
        return _number(line, file, place) if name == "PUT" else None
    if name in ("GLOBAL", "INST"):
        _line(opened, file, place)
        _line(opened, file, place)
        return None
    width = 0 if opcode.arg is None else opcode.arg.n
    if width < 0:
        raise DataError(f"{file} is refused: byte {place} is the opcode {name}, which data do not need")
    found = opened.read(width)
    if len(found) < width:
        raise DataError(f"{file} is truncated: it ends after {place} bytes without the end of a pickle")
    return int.from_bytes(found, "little") if name in ("BINPUT", "LONG_BINPUT") else None


def _line(opened: IO[bytes], file: Path, place: int) -> bytes:
    line = opened.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise DataError(f"{file} is truncated or forged: the line after byte {place} has no end")
    return line


def _number(line: bytes, file: Path, place: int) -> int:
    try:
        return int(line)
    except ValueError:
        raise DataError(f"{file} is no pickle: {line[:20]!r} after byte {place} is not a number") from None


class _Restricted(pickle.Unpickler):
    """An unpickler of NumPy arrays and plain containers."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return the replacement of a name that data need."""
        found = _ALLOWED.get((_MODULES.get(module, module), name))
        if found is None:
            raise DataError(
                f"the pickle is refused: it asks for {module}.{name}, which data do not need; nothing of it was run. "
                "If you trust who made it, load it yourself and save its arrays with numpy.savez"
            )
        return found

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401
        """Refuse references to objects outside the file."""
        raise DataError(f"the pickle is refused: it refers to {pid!r} outside itself")


class _ArrayClass:
    """Replacement of numpy.ndarray, which pickles only pass to its reconstruction; cannot be called."""


def _empty_array(kind: object, shape: object, typecode: object) -> np.ndarray[Any, Any]:
    """Return the empty array whose state a pickle sets next; NumPy checks that shape and data match."""
    if kind is not _ArrayClass or shape != (0,):
        raise DataError("the pickle is refused: it makes an array in another way than NumPy does")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _from_buffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> np.ndarray[Any, Any]:
    """Return the array of protocol 5, over its own bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise DataError("the pickle is refused: it makes an array of objects out of bytes")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(code: object, align: object = False, copy: object = False) -> np.dtype[Any]:
    """Return a plain type of numbers, text or objects."""
    if not isinstance(code, str) or len(code) > 32:
        raise DataError(f"the pickle is refused: {code!r} is no type of an array")
    # A copy, since the pickle goes on to set its byte order.
    return np.dtype(code, copy=True)


def _scalar(dtype: np.dtype[Any], data: bytes | str) -> Any:  # noqa: ANN401
    """Return a NumPy number or text."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise DataError("the pickle is refused: it makes a number of no known type")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Return bytes that protocols before 3 write as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise DataError("the pickle is refused: it writes bytes in another way than Python does")
    return text.encode("latin1")


def _only(kind: Callable[..., Any], *accepted: type) -> Callable[..., Any]:
    """Return a constructor of no argument or one of the accepted types: a number would allocate that many bytes."""

    def construct(*arguments: object) -> Any:  # noqa: ANN401
        if len(arguments) > 1 or not all(isinstance(argument, accepted) for argument in arguments):
            raise DataError("the pickle is refused: it makes a container in another way than Python does")
        return kind(*arguments)

    return construct


_MODULES = {  # names of NumPy 1 and Python 2
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
    "numpy._core._multiarray_umath": "numpy._core.multiarray",
    "numpy.core._multiarray_umath": "numpy._core.multiarray",
    "__builtin__": "builtins",
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _only(OrderedDict, list, tuple),
    ("builtins", "set"): _only(set, list, tuple),
    ("builtins", "frozenset"): _only(frozenset, list, tuple),
    ("builtins", "bytearray"): _only(bytearray, bytes),
    ("builtins", "bytes"): _only(bytes, list),
    ("builtins", "list"): _only(list, list, tuple),
    ("builtins", "dict"): _only(dict, list, tuple),
    ("builtins", "tuple"): _only(tuple, list, tuple),
}
