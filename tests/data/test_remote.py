"""Datasets behind URLs: a true copy, made once, renewed when they change, and every fault in one sentence."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from concordant.benchmarks.catalogue import folder_of, is_store, prepare, store_at, stored_as
from concordant.data import remote
from concordant.data.archives import is_url
from concordant.data.formats.own import read_numpy
from concordant.data.remote import CACHE, RECORD, fetch, fetch_store
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError

FILE = "scene15.npz"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory():
    storage = fsspec.filesystem("memory")
    yield storage
    storage.rm("/", recursive=True)


@pytest.fixture
def archive(tmp_path):
    """A folder with an archive of scene15's shapes."""
    (tmp_path / "shared").mkdir()
    draws = np.random.default_rng(0)
    arrays = {f"view{i}": draws.standard_normal((300, size), np.float32) for i, size in enumerate((20, 59, 40))}
    np.savez(tmp_path / "shared" / FILE, label=np.arange(300) % 15, **arrays)
    return tmp_path / "shared"


def put(storage, folder, where):
    for path in folder.iterdir():
        storage.pipe(f"{where}/{path.name}", path.read_bytes())


@pytest.fixture
def store(tmp_path):
    """A prepared dataset in two Arrow files."""
    pytest.importorskip("datasets")
    draws = np.random.default_rng(0)
    label = np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", label=label, a=draws.standard_normal((60, 5)), b=draws.standard_normal((60, 4)))
    reading = read_numpy(tmp_path / "mine.npz")
    write_store(tmp_path / "mine", reading.card, reading.instances, shard_bytes=1)
    return tmp_path / "mine"


def same(one, other):
    for part in ("train", "valid", "test"):
        first, second = getattr(one, part).take(slice(None)), getattr(other, part).take(slice(None))
        assert first.ids.tolist() == second.ids.tolist()
        for name, values in first.inputs.items():
            np.testing.assert_array_equal(values, second.inputs[name])


@pytest.mark.parametrize(
    ("text", "answer"),
    [("s3://b/x", True), ("file:///x", True), ("memory://x", True), ("a/b", False), ("c:\\x", False), ("x:y", False)],
)
def test_a_url_has_a_scheme(text, answer):
    assert is_url(text) is answer


def test_an_archive_of_any_storage_is_the_one_of_the_folder(archive, memory, cache):
    put(memory, archive, "/bucket/data")
    here = prepare("scene15", seed=0, data=archive)
    same(prepare("scene15", seed=0, data="memory://bucket/data"), here)
    same(prepare("scene15", seed=0, data=archive.as_uri()), here)
    (one,) = [path for path in cache.iterdir() if "memory" in (path / RECORD).read_text()]
    known = json.loads((one / RECORD).read_text())
    assert known["url"] == "memory://bucket/data"
    assert known["files"][FILE]["sha256"] == hashlib.sha256((archive / FILE).read_bytes()).hexdigest()
    assert sorted(path.name for path in one.iterdir()) == [".lock", RECORD, FILE]  # nothing half-made is left


def test_the_variable_may_name_a_url(archive, cache, monkeypatch):
    monkeypatch.setenv("CONCORDANT_DATA", archive.as_uri())
    assert (folder_of("scene15") / FILE).read_bytes() == (archive / FILE).read_bytes()
    assert cache in folder_of("scene15").parents


def test_a_prepared_dataset_is_copied_whole(store, memory):
    put(memory, store, "/sets/mine")
    copies = [
        fetch_store("memory://sets", "mine"),
        fetch_store("memory://sets/mine/", "mine"),
        store_at(store.as_uri()),
    ]
    for copy in copies:
        opened, original = Store(copy), Store(store)
        assert len(list(copy.glob("*.arrow"))) == len(list(store.glob("*.arrow")))
        for one, other in zip(opened, original, strict=True):
            assert one.id == other.id
            np.testing.assert_array_equal(one.features["b"], other.features["b"])
    same(prepare("own", seed=0, data="memory://sets/mine"), prepare("own", seed=0, data=store))
    assert is_store("memory://sets/mine")
    assert not is_store("digits")
    assert stored_as(store_at("memory://sets/mine"))[:4] == ("own", "mine", ("a", "b"), "folds")


def test_what_is_there_is_not_copied_again_until_it_changes(memory, monkeypatch):
    memory.pipe("/d/x.npz", b"first")
    copied = []
    plain = remote._Copy._copied
    monkeypatch.setattr(
        remote._Copy, "_copied", lambda self, file, info: copied.append(file) or plain(self, file, info)
    )
    for _ in range(3):
        folder = fetch("memory://d", ["x.npz"])
    assert copied == ["x.npz"]
    memory.pipe("/d/x.npz", b"other")  # as long as the first
    assert (fetch("memory://d", ["x.npz"]) / "x.npz").read_bytes() == b"other"
    (folder / "x.npz").write_bytes(b"cut")
    assert (fetch("memory://d", ["x.npz"]) / "x.npz").read_bytes() == b"other"
    assert copied == ["x.npz"] * 3


def test_over_http_on_this_machine(archive):
    pytest.importorskip("aiohttp")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(archive)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        same(prepare("scene15", seed=0, data=url), prepare("scene15", seed=0, data=archive))
        with pytest.raises(DataError, match=rf"nothing.npz is expected at {url}, and is not there"):
            fetch(url, ["nothing.npz"])
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(
        DataError, match=rf"{FILE} is expected at {url}, and is not there, or the place cannot be reached"
    ):
        fetch(url, [FILE])


def test_faults_say_what_to_do(tmp_path, memory, monkeypatch):
    with pytest.raises(DataError) as caught:
        fetch("memory://d", ["x.npz"])
    assert str(caught.value) == (
        "x.npz is expected at memory://d, and is not there, or the place cannot be reached; "
        "name another with --data or CONCORDANT_DATA"
    )
    with pytest.raises(DataError) as caught:
        fetch_store("memory://user:word@d", "mosi")
    assert str(caught.value) == (
        "no prepared dataset mosi is at memory://d: there is neither concordant.json nor mosi/concordant.json, "
        "or the place cannot be reached; name another with --data or CONCORDANT_DATA"
    )
    with pytest.raises(DataError, match=r"glue://d cannot be read .*Protocol not known: glue"):
        fetch("glue://d", ["x.npz"])
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(DataError, match="s3://d cannot be opened: Install s3fs"):
        fetch("s3://d", ["x.npz"])
    memory.pipe("/d/x.npz", b"first")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"the cache .*file cannot be written \(.+\); name another with CONCORDANT_CACHE"
    ):
        fetch("memory://d", ["x.npz"])


def test_a_file_that_arrives_short_is_not_kept(memory, monkeypatch, cache):
    memory.pipe("/d/x.npz", b"first")
    monkeypatch.setattr(type(memory), "get_file", lambda self, source, to, **_: Path(to).write_bytes(b"fi"))
    with pytest.raises(DataError, match=r"x\.npz of memory://d arrived with 2 of 5 bytes; try again"):
        fetch("memory://d", ["x.npz"])
    assert not list(cache.rglob("*.npz"))


def served(content, encoding=None):
    """Serve content under any name; return the URL and the server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/d", server


def test_more_bytes_than_the_limit_are_refused_however_they_are_packed(monkeypatch, memory, cache):
    monkeypatch.setenv("CONCORDANT_LIMIT", "1MiB")
    memory.pipe("/d/x.npz", b"0" * (1 << 21))
    with pytest.raises(DataError, match=r"x\.npz of memory://d announces 2,097,152 bytes, more than the 1,048,576"):
        fetch("memory://d", ["x.npz"])
    pytest.importorskip("aiohttp")
    url, server = served(gzip.compress(b"0" * (50 << 20)), "gzip")
    with pytest.raises(DataError, match=r"x\.npz of http.* announces .* bytes, more than the 1,048,576"):
        fetch(url, ["x.npz"])
    server.shutdown()
    assert not list(cache.rglob("*.npz"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 1}', '{"files": {"x.npz": 3}}'])
def test_a_record_that_cannot_be_read_renews_the_copy(memory, cache, content):
    memory.pipe("/d/x.npz", b"first")
    folder = fetch("memory://d", ["x.npz"])
    (folder / "x.npz").write_bytes(b"other")
    (folder / RECORD).write_text(content)
    assert (fetch("memory://d", ["x.npz"]) / "x.npz").read_bytes() == b"first"
