"""Pickles of all protocols and ages are read; those that want more than data need are refused, and nothing runs."""

import io
import pickle
import re
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.data.formats.pickles import read_pickle
from concordant.errors import DataError

VALUES = {
    "train": {
        "text": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        "audio": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "id": np.array(["a$_$1", "b$_$22"], dtype=object),
        "names": np.array(["a", "bcd"]),
        "bytes": np.array([b"x", b"yz"]),
        "big": np.arange(3, dtype=">i4"),
        "labels": np.float64(0.5),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
        "none": None,
        "whole": 2**70,
        "lists": [[1, 2.5, "x", b"raw", True], (), {3}],
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
    }
}


def written(tmp_path, value, protocol=2):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tolist() == expected.tolist()
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(6))
def test_what_was_written_is_read(tmp_path, protocol):
    path = written(tmp_path, VALUES, protocol)
    same(read_pickle(path), pickle.loads(path.read_bytes()))
    assert read_pickle(path)["train"]["big"].tolist() == [0, 1, 2]


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_any_plain_value_is_read(tmp_path_factory, value, protocol):
    same(read_pickle(written(tmp_path_factory.mktemp("any"), value, protocol)), value)


def test_paths_of_numpy_1_are_read(tmp_path):
    plain = pickle.dumps(VALUES, protocol=2)
    assert b"numpy._core.multiarray" in plain
    path = tmp_path / "old.pkl"
    path.write_bytes(plain.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    same(read_pickle(path), pickle.loads(plain))


def test_byte_strings_of_python_2_become_text(tmp_path):
    path = tmp_path / "two.pkl"
    # {'id': 'caf\xe9', 'x': array([1., 2.])}, as Python 2 writes it
    raw = np.array([1.0, 2.0]).tobytes()
    path.write_bytes(
        b"\x80\x02}q\x00(U\x02idU\x04caf\xe9U\x01x"
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(raw)])
        + raw
        + b"tbu."
    )
    found = read_pickle(path)
    assert found["id"] == "caf\xe9"
    assert found["x"].tolist() == [1.0, 2.0]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refused(path, text):
    with pytest.raises(DataError, match=re.escape(text)):
        read_pickle(path)


def test_nothing_that_a_pickle_says_is_run(tmp_path):
    import os
    import subprocess

    witness = tmp_path / "witness"
    for evil in (
        Evil(os.system, f"touch {witness}"),
        Evil(subprocess.check_call, ["touch", str(witness)]),
        Evil(eval, f"open({str(witness)!r}, 'w')"),
        Evil(open, str(witness), "w"),
        Evil(np.load, str(witness)),
    ):
        for protocol in range(6):
            path = written(tmp_path, {"x": [np.zeros(2), evil]}, protocol)
            refused(path, "which data do not need; nothing of it was run")
    assert not witness.exists()


@pytest.mark.parametrize("name", ["os", "sys", "builtins.getattr", "numpy.f2py.compile", "functools.partial"])
def test_importing_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "import.pkl"
    path.write_bytes(f"c{module or name}\n{attribute if module else 'path'}\n.".encode())
    refused(path, f"it asks for {module or name}.")


def test_dotted_names_do_not_lead_out_of_what_is_allowed(tmp_path):
    path = tmp_path / "dotted.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__class__.x\x93.")
    refused(path, "it asks for numpy.ndarray.__class__.x")


@pytest.mark.parametrize(
    ("evil", "text"),
    [
        (Evil(bytearray, 2**40), "it makes a container in another way than Python does"),
        (Evil(np.ndarray, (2**40,)), "it makes an array in another way than NumPy does"),
        (Evil(np.dtype, "V" * 100), "is no type of an array"),
        (Evil(np.dtype, "U999999999"), "it holds type in place of data"),
    ],
)
def test_huge_allocations_are_refused(tmp_path, evil, text):
    refused(written(tmp_path, evil), text)


def test_an_array_reserves_no_more_than_its_bytes(tmp_path):
    path = written(tmp_path, np.zeros(2, np.float32), 2)
    plain = path.read_bytes()
    assert plain.count(b"K\x02\x85") == 1
    huge = b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85"
    path.write_bytes(plain.replace(b"K\x02\x85", huge))
    refused(path, f"an array of shape ({2**40},) needs {2**42} bytes; found 8")
    path.write_bytes(plain.replace(b"K\x00\x85", huge))
    refused(path, "it makes an array in another way than NumPy does")


@pytest.mark.parametrize("code", [pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8])
def test_lengths_beyond_the_file_are_refused(tmp_path, code):
    path = tmp_path / "long.pkl"
    path.write_bytes(b"\x80\x05" + code + struct.pack("<Q", 2**50) + b"x.")
    refused(path, f"announces {2**50} bytes, which are not there")


@pytest.mark.parametrize("put", [pickle.LONG_BINPUT + struct.pack("<I", 2**31), pickle.PUT + b"99999999999\n"])
def test_a_memo_that_leaps_takes_one_entry(tmp_path, put):
    path = tmp_path / "memo.pkl"
    path.write_bytes(b"\x80\x02]" + put + b".")
    assert read_pickle(path) == []


RAW = np.arange(3, dtype=np.int64).tobytes()
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def typed(code, state=b""):
    return b"cnumpy\ndtype\n\x8c" + bytes([len(code)]) + code + b"\x89\x88\x87R" + state


def state_of(order=b"<", subtype=b"N", names=b"N", fields=b"N", flags=b"\x00"):
    return b"(K\x03\x8c\x01" + order + subtype + names + fields + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK" + flags + b"tb"


def stated(kind, raw=RAW, shape=b"K\x03\x85"):
    return ARRAY + b"(K\x01" + shape + kind + b"\x89C" + bytes([len(raw)]) + raw + b"tb"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (stated(typed(b"O8", state_of(b"|", flags=b"\x00"))), "it makes an array of objects out of bytes"),
        (stated(typed(b"O", state_of(b"|", flags=b"?"))), "it makes an array of objects out of bytes"),
        (stated(typed(b"i8", state_of(names=b"(\x8c\x01at"))), "it makes a type of an array in another way"),
        (stated(typed(b"i8", state_of(fields=b"}"))), "it makes a type of an array in another way"),
        (stated(typed(b"i8", state_of(subtype=typed(b"O8")))), "it makes a type of an array in another way"),
        (stated(typed(b"i8", state_of(b"z"))), "it makes a type of an array in another way"),
        (stated(typed(b"V8")), "'V8' is no type of an array"),
        (stated(typed(b"M8[s]")), "'M8[s]' is no type of an array"),
        (stated(typed(b"i8,O")), "'i8,O' is no type of an array"),
        (stated(typed(b"U0"), b"", b"\x8a\x05\x00\x00\x00\x00\x10\x85"), "needs 0 bytes; found 0"),
        (stated(typed(b"i8"), RAW[:-1]), "needs 24 bytes; found 23"),
        (stated(typed(b"i8"), RAW, b"K\x03J\xff\xff\xff\xff\x86"), "must have a shape of whole numbers"),
        (stated(b"N"), "it makes an array of no known type"),
        (stated(typed(b"i8")) + b"(K\x01K\x00\x85N\x89C\x00tb", "it makes an array in another way"),
        (b"cnumpy._core.multiarray\nscalar\n" + typed(b"O8") + b"C\x08AAAAAAAA\x86R", "objects out of bytes"),
        (b"cnumpy._core.numeric\n_frombuffer\n(C\x08AAAAAAAA" + typed(b"O8") + b"K\x01\x85U\x01CtR", "of objects"),
        (b"]q\x00h\x00a", "contains itself"),
        (b"}q\x00X\x01\x00\x00\x00ah\x00s", "contains itself"),
        (b"]" * 200 + b"a" * 199, "100 levels"),
        (b"]" + b"q\x00h\x00\x86" * 40, "larger than"),
        (
            b"X\x01\x00\x00\x00x" + b"2\x86" * 40 + b"2\x86q\x00}h\x00K\x01s",
            "a key of a dictionary or a set must be text",
        ),
        (b"}" + b"\x8a\x09" + (2**66).to_bytes(9, "little") + b"K\x01s", "a key of a dictionary or a set must be text"),
        (b"cbuiltins\nset\n](K\x01N]e\x85R", "a key of a dictionary or a set must be text"),
        (b"(ibuiltins\nlist\n", "it holds the opcode INST"),
        (b"cbuiltins\nlist\n)\x81", "it holds the opcode NEWOBJ"),
        (b"\x82\x01", "it holds the opcode EXT1"),
        (b"\x97", "outside itself"),
        (b"K\x01K\x02a", "it adds to int"),
        (b"K\x01)R", "it calls something that is no function"),
        (b"cnumpy\nndarray\n", "it holds name in place of data"),
    ],
)
def test_crafted_opcodes_are_refused(tmp_path, body, text):
    path = tmp_path / "crafted.pkl"
    path.write_bytes(b"\x80\x05" + body + b".")
    refused(path, text)
    refused(path, str(path))


def test_the_same_opcodes_in_order_are_read(tmp_path):
    path = tmp_path / "plain.pkl"
    path.write_bytes(b"\x80\x05" + stated(typed(b"i8", state_of())) + b".")
    assert read_pickle(path).tolist() == [0, 1, 2]
    path.write_bytes(b"\x80\x05" + stated(typed(b"i8", state_of(b">")), RAW[::-1]) + b".")
    assert read_pickle(path).tolist() == [2, 1, 0]


def test_a_small_file_makes_no_large_content(tmp_path):
    path = tmp_path / "bomb.pkl"
    text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x00"
    path.write_bytes(b"\x80\x05]" + text + b"0" + b"c_codecs\nencode\nh\x00\x85Ra" * 500 + b".")
    refused(path, "bytes out of fewer")
    path.write_bytes(b"\x80\x05]" + text + b"0" + b"h\x00a" * 10_000 + b".")
    refused(path, "larger than")


def test_array_bytes_of_python_2_in_protocol_0_are_read(tmp_path):
    path = tmp_path / "zero.pkl"
    raw = np.array([1.5, -2.0]).tobytes()
    quoted = "".join(f"\\x{byte:02x}" for byte in raw).encode()
    path.write_bytes(
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + quoted + b"'\ntb."
    )
    assert read_pickle(path).tolist() == [1.5, -2.0]


def test_what_lies_outside_the_file_is_refused(tmp_path):
    buffer = io.BytesIO()

    class Outside(pickle.Pickler):
        def persistent_id(self, value):
            return "there" if isinstance(value, set) else None

    Outside(buffer, protocol=4).dump([{1}])
    path = tmp_path / "outside.pkl"
    path.write_bytes(buffer.getvalue())
    refused(path, "it refers to 'there' outside itself")


def test_every_cut_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "cut.pkl"
    for protocol in (0, 2, 5):
        plain = pickle.dumps({"a": np.arange(3), "b": "text"}, protocol=protocol)
        for end in range(len(plain)):
            path.write_bytes(plain[:end])
            with pytest.raises(DataError, match=re.escape(str(path))):
                read_pickle(path)


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "none.pkl", "cannot be read as a pickle (No such file or directory)")
    path = tmp_path / "text.pkl"
    path.write_text("\xff some text")
    refused(path, "is no pickle")
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    refused(path, "is an HTML page")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(path, "is a Git LFS pointer, not the file itself; run `git lfs pull` there")
