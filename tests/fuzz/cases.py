"""Mutated files and documents for every reader: each is read, or refused with one sentence.

`python tests/fuzz/cases.py --count 10000 --seed 1` runs that many cases in this process, with a limit of ten seconds
of computing each and of memory for all, and prints what went wrong, one JSON object per line, and a summary as the
last. If the process itself dies, the file named by `--now` holds the case that killed it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

SECONDS = 10  # of computing per case
WAIT = 120  # seconds in all, on a machine that does other things too
ADDRESSES = 12 << 30  # bytes; PyTorch alone maps several GiB of them
NUMBERS = (0, 1, -1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -(2**63))
VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    1e300,
    "",
    "x",
    "../../x",
    "\x1b[31m",
    "=1+1",
    "<b>",
    "x" * 5000,
    [],
    {},
    [[]],
)


class Target(NamedTuple):
    """A reader.

    Args:
        make: writes intact files into a folder; returns those that are mutated.
        read: reads the folder as a command would.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


class TooSlowError(BaseException):
    """A case took more than its time; no reader may catch it."""


def mutated(data: bytes, draws: random.Random, tokens: list[bytes]) -> bytes:
    """Return bytes with a few random changes: flips, extreme numbers, cuts, repetitions, words of the format."""
    out = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 4, 16))):
        place, kind = draws.randrange(len(out) + 1), draws.randrange(9)
        end = min(len(out), place + draws.choice((1, 4, 16, 200)))
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << draws.randrange(8)
        elif kind == 1:
            out[place : place + 1] = bytes([draws.choice((0, 1, 40, 46, 93, 127, 128, 255, draws.randrange(256)))])
        elif kind == 2:
            width = draws.choice((1, 2, 4, 8))
            number = draws.choice(NUMBERS) % 256**width
            out[place : place + width] = number.to_bytes(width, draws.choice(("little", "big")))
        elif kind == 3:
            out[place:] = b"" if draws.random() < 0.3 else out[place:]
        elif kind == 4:
            del out[place:end]
        elif kind == 5:
            out[place:place] = out[place:end] * draws.choice((1, 2, 50))
        elif kind == 6:
            out[place:place] = draws.choice(tokens)
        elif kind == 7:
            other = draws.randrange(len(out) + 1)
            out[place:end] = out[other : other + end - place]
        else:
            digits = [spot for spot, byte in enumerate(out) if 48 <= byte < 58]
            if digits:
                spot = draws.choice(digits)
                out[spot : spot + 1] = draws.choice((b"-1", b"9" * 19, b"9" * 5000, b"1e999", b"1_0", b"0", b"NaN"))
    return bytes(out)


def mutated_json(data: bytes, draws: random.Random) -> bytes:
    """Return a document with a value, a key or a level changed."""
    document = json.loads(data)
    spots: list[tuple[object, object]] = []
    level: list[object] = [document]
    while level:
        one = level.pop()
        inner = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in inner:
            spots.append((one, key))
            level.append(value)
    for _ in range(draws.choice((1, 1, 2, 5))):
        holder, key = draws.choice(spots)
        kind = draws.randrange(5)
        try:
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, dict):
                holder[str(draws.choice(VALUES))] = holder[key]
            elif kind == 2:
                value = holder[key]
                for _ in range(draws.choice((1, 60, 400))):
                    value = [value]
                holder[key] = value
            else:
                holder[key] = draws.choice(VALUES)
        except (KeyError, IndexError):
            continue
    return json.dumps(document, allow_nan=True).encode("utf-8", "surrogatepass")


PICKLE = b"( . 0 2 ] } ) R b u e s N Q \x93 \x94 \x85 \x86 h\0 q\0 K\1 U\2O8 X\1\0\0\0a"
NAMES = b"os system;builtins eval;builtins getattr;builtins set;numpy dtype;numpy ndarray;_codecs encode;"
NAMES += b"numpy.core.multiarray _reconstruct;numpy._core.multiarray scalar;numpy._core.numeric _frombuffer"
YAML = (
    b"&a #*a #<<: *a#- #{#[#!!python/object:x #!!binary #2020-01-01#? #\t#| #'#\"#: #\n#1:59:59#0x#.inf#!!set #!!omap "
)
TOKENS = {
    ".pkl": [
        *PICKLE.split(),
        b"\x8e" + b"\xff" * 8,
        *(b"c%b\n%b\n" % tuple(name.split()) for name in NAMES.split(b";")),
    ],
    ".csv": [b",", b"\n", b'"', b"\r", b";", b"\0", b"\xff", b"nan", b"1_1", b"01", b"=1", b"\xef\xbb\xbf", b"label"],
    ".yaml": [*YAML.split(b"#"), b"&a [*a]", b"%YAML 9\n"],
    ".json": [b"[", b"{", b'"', b",", b":", b"NaN", b"Infinity", b"null", b"1e999", b"\\ud800", b"\xff", b"[" * 2000],
    ".txt": [b"&", b",", b"\n", b" ", b"/", b"..", b"\0", b"\xff", b"-1", b"\xef\xbb\xbf", b"1_0"],
}
OTHER = [b"", b"\0" * 8, b"\xff" * 8, b"\x93NUMPY", b"PK\3\4", b"PAR1", b"{'descr': '|O'", b"(" * 500, b"<html>"]


def sentiment(folder: Path) -> list[Path]:
    """Write a pickle of each format and of several protocols."""
    draws = np.random.default_rng(0)
    files = []
    for place, protocol in enumerate((0, 2, 4, 5)):
        count, steps = 4, 5
        bert = np.zeros((count, 3, steps), np.float32)
        bert[:, 1] = 1
        split = {
            "text": draws.normal(size=(count, steps, 3)),
            "labels": np.zeros((count, 1, 1)),
            "extra": {"a": [1, (2,)]},
        }
        if place % 2:
            split = {
                "text": draws.normal(size=(count, steps, 3)),
                "text_bert": bert,
                "regression_labels": np.zeros(count),
            }
        split |= {
            "audio": draws.normal(size=(count, steps, 2)).astype("f4"),
            "vision": np.asfortranarray(np.ones((4, 5, 2))),
        }
        split |= {"id": np.array([f"v{k}$_$1" for k in range(count)], object if place else "U5")}
        data = pickle.dumps({"train": split, "test": split}, protocol=protocol)
        files.append(folder / f"p{protocol}.pkl")
        files[-1].write_bytes(data if place else data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return files


def read_sentiments(folder: Path) -> object:
    from concordant.data.formats.sentiment import read_sentiment

    return [list(read_sentiment(path, name="cmu-mosi").instances) for path in folder.glob("*.pkl")]


def arrays(count: int = 6) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "label": np.arange(count) % 2,
        "id": np.array([f"i{k}" for k in range(count)]),
        "group": np.arange(count) // 2,
        "classes": np.array(["no", "yes"]),
        "a": draws.normal(size=(count, 3)),
        "b": draws.normal(size=(count, 4, 2)).astype("f4"),
        "b_length": np.arange(count) % 5,
        "c": draws.integers(0, 255, (count, 6, 6, 3)).astype("u1"),
        "d": draws.normal(size=(9, 2)).astype(">f8"),
        "d_offsets": np.array([0, 1, 2, 3, 4, 5, 9]),
        "d_present": np.arange(count) > 1,
    }


def npz(folder: Path) -> list[Path]:
    np.savez(folder / "plain.npz", **arrays())
    np.savez_compressed(folder / "packed.npz", **arrays())
    return sorted(folder.glob("*.npz"))


def npy(folder: Path) -> list[Path]:
    for name, values in arrays().items():
        np.save(folder / f"{name}.npy", values)
    return sorted(folder.glob("*.npy"))


def stored(reading: object, folder: Path) -> None:
    """Write a dataset, and read it back in all ways."""
    from concordant.data.writing import write_store

    write_store(folder / "made", reading.card, reading.instances, findings=reading.findings)
    read_store(folder / "made")


def read_npz(folder: Path) -> object:
    from concordant.data.archives import Column, read_archive
    from concordant.data.formats.own import read_numpy

    stored(read_numpy(folder / "plain.npz"), folder / "1")
    stored(read_numpy(folder / "packed.npz"), folder / "2")
    return read_archive(folder, "plain.npz", {"a": Column("rows", (3,)), "label": Column("rows", kinds="i", classes=2)})


def read_npy(folder: Path) -> object:
    from concordant.data.formats.own import read_numpy

    return stored(read_numpy(folder), folder)


def csv(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {
        "label": ["x", "y", "x", "y"],
        "a.0": [1, 2, 3, None],
        "b": [[1.0, 2.0]] * 4,
        "__index_level_0__": [0, 1, 2, 3],
    }
    pq.write_table(pa.table(table), folder / "x.parquet")
    (folder / "gyro.txt").write_text("id;x\n" + "".join(f"i{k};{k}\n" for k in range(8)))
    (folder / "rows.csv").write_text(
        "id,label,group,split,a.x,a.y,b.z\n"
        + "".join(
            f"i{k},{'no' if k % 2 else 'yes'},g{k // 2},{'train' if k < 4 else 'test'},{k},,{k / 7}\n" for k in range(8)
        )
    )
    (folder / "steps.csv").write_text(
        "id,step,label,a.x\n" + "".join(f"i{k // 3},{k % 3},{k // 3}.5,{k}\n" for k in range(12))
    )
    return sorted(folder.iterdir())


def read_csvs(folder: Path) -> object:
    from concordant.data.formats.tables import read_csv

    own = {"rows": {"gyro": folder / "gyro.txt"}}
    tables = [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".parquet")]
    return [stored(read_csv(path, modalities=own.get(path.stem)), folder / path.stem) for path in tables]


def ave(folder: Path) -> list[Path]:
    import h5py

    rows = 6
    (folder / "Annotations.txt").write_text(
        "".join(f"class {k % 3}&video{k}&good&0&{4 + k % 4}\n" for k in range(rows))
    )
    content = {
        "audio_feature": np.ones((rows, 10, 4)),
        "visual_feature": np.ones((rows, 10, 2, 2, 3)),
        "labels": np.eye(4)[np.arange(60).reshape(rows, 10) % 4],
    }
    content |= {f"{split}_order": np.arange(2) + 2 * k for k, split in enumerate(("train", "val", "test"))}
    for name, values in content.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            packed = {"compression": "gzip"} if name == "audio_feature" else {}
            file.create_dataset("order" if "order" in name else "avadataset", data=values, **packed)
    return sorted(folder.iterdir())


def read_aves(folder: Path) -> object:
    from concordant.data.formats.ave import read_ave

    return [list(read_ave(folder, task=task).instances) for task in ("segments", "clips")]


def mat(folder: Path) -> list[Path]:
    import h5py
    from scipy.io import savemat

    savemat(folder / "a1_s1_t1_skeleton.mat", {"d_skel": np.ones((20, 3, 4))}, do_compression=True)
    savemat(folder / "a1_s2_t1_inertial.mat", {"d_iner": np.ones((7, 6))})
    with h5py.File(folder / "a1_s3_t1_inertial.mat", "w", userblock_size=512) as file:
        file["d_iner"] = np.ones((6, 7))
    cells = np.empty((1, 2), object)
    cells[0, :] = [np.ones((3, 4)), np.ones((2, 4))]
    savemat(folder / "views.mat", {"X": cells, "gt": np.arange(4)[:, None], "who": np.array(["a", "bc"], object)})
    with h5py.File(folder / "views73.mat", "w", userblock_size=512) as file:
        parts = [file.create_dataset(f"#refs#/{k}", data=np.ones((4, 3 - k))).ref for k in range(2)]
        cell = file.create_dataset("X", data=np.array(parts, h5py.ref_dtype), dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        file["gt"] = np.arange(4)[None]
    return sorted(folder.iterdir())


def read_mats(folder: Path) -> object:
    from concordant.data.formats.utd_mhad_mat import read_utd_mhad
    from concordant.data.formats.views import read_views

    views = [read_views(folder / file, file, {"a": 3, "b": 2}) for file in ("views.mat", "views73.mat")]
    return [views, list(read_utd_mhad(folder).instances)]


def published(folder: Path) -> list[Path]:
    for stem, count in (("train", 3), ("t10k", 2)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = np.array([0x0800 + len(shape), *shape], ">u4").tobytes()
            (folder / f"{stem}-{kind}-ubyte").write_bytes(header + np.ones(shape, np.uint8).tobytes())
    part = (np.ones((2, 3, 4), np.float32), np.ones((2, 3)))
    for modality in ("text", "audio", "video"):
        (folder / f"{modality}.pickle").write_bytes(pickle.dumps((*part, *part, 3, [2, 3], [1, 3]), protocol=2))
    return sorted(folder.iterdir())


def read_published(folder: Path) -> object:
    from concordant.data.formats.av_digits import read_av_digits
    from concordant.data.formats.utterances import read_utterances
    from concordant.errors import DataError

    utterances = read_utterances(folder)
    try:
        return [utterances, read_av_digits(folder)]
    except DataError as error:  # there are no recordings
        if "has no recording" in str(error):
            return utterances
        raise


def store(folder: Path) -> list[Path]:
    from concordant.data.formats.own import read_numpy
    from concordant.data.writing import write_store

    np.savez(folder / "x.npz", **arrays())
    reading = read_numpy(folder / "x.npz")
    (folder / "x.npz").unlink()
    write_store(folder / "s", reading.card, reading.instances, findings=reading.findings, shard_bytes=100)
    return [path for path in sorted((folder / "s").iterdir()) if path.name != "dataset_info.json"]


def read_store(folder: Path) -> object:
    from concordant.benchmarks.prepared import split
    from concordant.data.checking import check
    from concordant.data.description import describe
    from concordant.data.store import Store
    from concordant.data.stored import everything
    from concordant.errors import ConcordantError

    place = folder / "s" if (folder / "s").is_dir() else folder
    check(place)
    found = Store(place)
    describe(place)
    list(found)
    whole = everything(found)
    whole.take(slice(None))
    try:
        split(whole, 0, "given").scaled()
    except ConcordantError as error:  # a dataset may be too small to divide; what the sentence is counts
        return str(error)
    return None


def lists(folder: Path) -> list[Path]:
    texts = {
        "train.csv": "1001_IEO_NEU_XX,NEU\r\n1002_IEO_HAP_LO,HAP\r\n",
        "test.csv": "1003_IEO_SAD_HI,SAD\n",
        "my_train.txt": "abc,10,3\ndef 4\n",
        "my_test.txt": "ghi,10,30\n",
        "classInd.txt": "1 Archery\n2 Bowling\n",
        "trainlist01.txt": "Archery/v_Archery_g01_c01.avi 1\n",
        "testlist01.txt": "Bowling/v_Bowling_g02_c01.avi\n",
        "Annotations.txt": "Bark&video1&good&0&10\nChurch bell&video2&good&2&5\n",
        "trainSet.txt": "Bark&video1&good&0&10\n",
        "valSet.txt": "Church bell&video2&good&2&5\n",
        "testSet.txt": "Bark&video3&good&0&0\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return sorted(folder.iterdir())


def read_lists(folder: Path) -> object:
    from concordant.data.formats import ave, cremad, kinetics_sounds, ucf101
    from concordant.errors import ConcordantError

    for read in (ave.read_ave_media, cremad.read_cremad, kinetics_sounds.read_kinetics_sounds, ucf101.read_ucf101):
        try:
            list(read(folder).instances)
        except ConcordantError as error:  # the media are missing; what the sentence is counts
            checked(error)
    return None


def parquet(folder: Path) -> list[Path]:
    import pyarrow as pa

    from concordant.robustness.answers import write_table

    count = 8
    columns = {
        "calibrator": pa.array(["none"] * count).dictionary_encode(),
        "perturbed_training": pa.array([False] * count),
        "seed": pa.array([0] * count),
        "condition": pa.array(["clean"] * count).dictionary_encode(),
        "id": pa.array([f"i{k}" for k in range(count)]),
        "group": pa.nulls(count, pa.string()),
        "label": pa.array([k % 2 for k in range(count)]),
        "prediction": pa.array([0] * count),
        "confidence": pa.array([0.5] * count, pa.float32()),
        "reliability_a": pa.array([0.5] * count, pa.float32()),
    }
    write_table(folder / "predictions.parquet", pa.table(columns))
    return [folder / "predictions.parquet"]


def read_parquet(folder: Path) -> object:
    from concordant.robustness.answers import correctness, read_tables

    return correctness(read_tables([folder / "predictions.parquet"]))


def weights(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    from concordant.training.checkpoint import Checkpoint

    save_file({"a": torch.ones(3, 2), "b": torch.ones(1, dtype=torch.float64)}, folder / "w.safetensors")
    Checkpoint(folder / "checkpoint.pt", {"a": "b"}).write(
        {"step": 3, "model": {"w": torch.ones(4)}, "history": [{"x": 1.0}]}
    )
    return sorted(folder.iterdir())


def read_weights(folder: Path) -> object:
    from concordant.training import runs
    from concordant.training.checkpoint import Checkpoint

    return Checkpoint(folder / "checkpoint.pt", {"a": "b"}).read(), runs.read_weights(folder / "w.safetensors", "do x")


def grid(folder: Path) -> list[Path]:
    (folder / "grid.yaml").write_text(
        "benchmarks: [digits]\nfusions: [sum]\ncalibrators: [none, context]\nseeds: 2\n"
        "recipe: {steps: 4, weight_decay: 1.0e-3}\n"
        "search:\n  budget: 2\n  space:\n    learning_rate: {log: [1.0e-4, 1.0e-2]}\n    dropout: [0.0, 0.5]\n"
    )
    return [folder / "grid.yaml"]


def read_grid(folder: Path) -> object:
    from concordant.sweep.grid_file import read_grid

    return json.dumps(read_grid(folder / "grid.yaml").model_dump(mode="json"))


def documents(folder: Path) -> list[Path]:
    """Write a run's configuration, a shared model's, and the smallest document of each kind."""
    from safetensors.torch import save_file

    from concordant.deploy.deployed import DeployedModel
    from concordant.deploy.opening import SHARED_WEIGHTS
    from concordant.documents import RECORDS, write_document
    from concordant.training.config import make_config

    config = make_config("digits", calibrators=("none", "context"), seeds=1, recipe={"steps": 4}).model_dump(
        mode="json"
    )
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps({"schema": "concordant.config/1", **config, "files": {}}))
    (folder / "shared").mkdir()
    description = {
        "schema": "concordant.model/1",
        "config": config,
        "label": "context",
        "seed": 0,
        "classes": [str(k) for k in range(10)],
        "kind": "class",
        "layouts": dict.fromkeys(config["modalities"], "bd"),
        "shapes": {name: [3] for name in config["modalities"]},
        "table": "",
    }
    (folder / "shared" / "config.json").write_text(json.dumps({"description": description}))
    model = DeployedModel(description)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, folder / "shared" / SHARED_WEIGHTS)
    for kind, record in RECORDS.items():
        write_document(folder / f"{kind}.json", kind, {"schema": f"concordant.{kind}/1", **smallest(record)})
    return sorted(folder.rglob("*.json"))


def smallest(record: type) -> dict[str, object]:
    """Return the smallest document of a record."""
    schema = record.model_json_schema()
    definitions = schema.get("$defs", {})

    def value(of: dict[str, object]) -> object:
        if "$ref" in of:
            return value(definitions[of["$ref"].rpartition("/")[2]])
        if "anyOf" in of:
            return value(of["anyOf"][0])
        kind = of.get("type")
        if kind == "object":
            return {name: value(inner) for name, inner in of.get("properties", {}).items()}
        if kind == "array":
            return [value(of["items"])] if "items" in of else []
        if str(of.get("pattern", "")).startswith("^data:image"):
            return "data:image/png;base64,AAAA"
        return {"string": "x", "integer": 1, "number": 0.5, "boolean": True}.get(str(kind))

    return value(schema)


def read_documents(folder: Path) -> object:
    from concordant.deploy.opening import load_shared
    from concordant.documents import RECORDS, read_document
    from concordant.errors import ConcordantError
    from concordant.training.runs import RunFolder

    jobs: list[Callable[[], object]] = [
        lambda: RunFolder(folder / "run").config,
        lambda: load_shared(folder / "shared"),
    ]
    jobs += [lambda kind=kind: read_document(folder / f"{kind}.json", kind) for kind in RECORDS]
    for job in jobs:
        try:
            job()
        except ConcordantError as error:  # the others are read all the same
            checked(error)
    return None


def report(folder: Path) -> list[Path]:
    """Write the documents of an analysed run and of a grid, as their folders."""
    import importlib.util

    found = importlib.util.spec_from_file_location("example", Path(__file__).parents[1] / "report" / "example.py")
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    run, grid = example.example(), example.example_grid(rows=2)
    places = {"run": ("results",), "grid": ("grid",), "run/analyses": ("removal", "corruption", "dynamics", "features")}
    for place, kinds in places.items():
        (folder / place).mkdir()
        for kind in kinds:
            content = json.dumps(getattr(grid if place == "grid" else run, kind))
            (folder / place / f"{kind}.json").write_text(content)
    (folder / "run" / "analyses" / "check-0.json").write_text(json.dumps(run.checks[0]))
    return sorted(folder.rglob("*.json"))


def read_report(folder: Path) -> object:
    from concordant.errors import ConcordantError
    from concordant.report.page import read_all
    from concordant.report.page.render import render

    for place in ("run", "grid"):
        try:
            render(read_all(folder / place))
        except ConcordantError as error:  # the other is read all the same
            checked(error)
    return None


def media(folder: Path) -> list[Path]:
    """Write a second of sound and pictures in several formats."""
    import av
    import soundfile
    from PIL import Image

    tone = 0.5 * np.sin(np.arange(8000) / 3)
    for name, subtype in (("x.wav", "PCM_16"), ("f.wav", "FLOAT"), ("x.flac", None), ("x.mp3", None), ("x.aiff", None)):
        soundfile.write(folder / name, tone, 8000, subtype=subtype)
    pictures = [np.full((16, 32, 3), 20 * place, np.uint8) for place in range(10)]
    for suffix in ("png", "jpg", "tif", "gif"):
        Image.fromarray(pictures[5]).save(folder / f"x.{suffix}")
    for suffix in ("mp4", "mkv", "avi", "ts"):
        with av.open(str(folder / f"film.{suffix}"), "w") as film:
            video, audio = film.add_stream("mpeg4", rate=10), film.add_stream("mp2", rate=16000, layout="mono")
            video.width, video.height, video.pix_fmt = 32, 16, "yuv420p"
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 16128), np.int16), format="s16", layout="mono")
            sound.sample_rate = 16000
            frames = [av.VideoFrame.from_ndarray(one, format="rgb24") for one in pictures]
            for one in (*frames, None):
                film.mux(video.encode(one))
            for one in (*av.AudioResampler(frame_size=1152).resample(sound), None):
                film.mux(audio.encode(one))
    return sorted(folder.iterdir())


def read_media(folder: Path) -> object:
    from concordant.data.media.audio import read_audio
    from concordant.data.media.video import load_images, read_frames

    sounds = [path for path in folder.iterdir() if path.suffix in (".wav", ".flac", ".mp3", ".aiff")]
    images = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".tif", ".gif"))
    films = list(folder.glob("film.*"))
    return [
        load_images(images, size=(8, 8)),
        *(read_audio(path, rate=16000) for path in (*sounds, *films)),
        *(read_frames(path, fps=fps) for path in films for fps in (5, None)),
    ]


TARGETS = {
    "pickle": Target(sentiment, read_sentiments),
    "npz": Target(npz, read_npz),
    "npy": Target(npy, read_npy),
    "csv": Target(csv, read_csvs),
    "hdf5": Target(ave, read_aves),
    "mat": Target(mat, read_mats),
    "published": Target(published, read_published),
    "store": Target(store, read_store),
    "lists": Target(lists, read_lists),
    "parquet": Target(parquet, read_parquet),
    "media": Target(media, read_media),
    "weights": Target(weights, read_weights),
    "grid": Target(grid, read_grid),
    "documents": Target(documents, read_documents),
    "report": Target(report, read_report),
}


def checked(error: BaseException) -> None:
    """Raise ValueError where an error of ours is no sentence on one short line."""
    text = str(error)
    if not text or not text.isprintable() or len(text) > 6100 or len(text.splitlines()) > 1:
        raise ValueError(f"no sentence: {text[:300]!r}")


def run(names: list[str], count: int, seed: int, root: Path, now: Path | None) -> dict[str, object]:
    """Run cases in turn over the targets; return their numbers and what went wrong."""
    from concordant.errors import ConcordantError

    def alarm(*_: object) -> None:
        raise TooSlowError

    signal.signal(signal.SIGPROF, alarm)
    signal.signal(signal.SIGALRM, alarm)
    originals = {}
    for name in names:
        (root / "intact" / name).mkdir(parents=True)
        originals[name] = TARGETS[name].make(root / "intact" / name)
        shutil.copytree(root / "intact" / name, root / "check" / name)
        TARGETS[name].read(root / "check" / name)  # what is intact is read
    outcomes, wrong, slowest = Counter[str](), [], 0.0
    for case in range(count):
        name = names[case % len(names)]
        draws = random.Random(f"{seed}-{case}")  # noqa: S311 - mutations, not secrets
        folder = root / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / "intact" / name, folder)
        file = draws.choice(originals[name])
        data = file.read_bytes()
        if file.suffix == ".json" and draws.random() < 0.6:
            data = mutated_json(data, draws)
        else:
            data = mutated(data, draws, TOKENS.get(file.suffix, OTHER))
        (folder / file.relative_to(root / "intact" / name)).write_bytes(data)
        about = {"case": case, "seed": seed, "target": name, "file": file.name}
        if now is not None:
            now.write_text(json.dumps(about))
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAIT)
        try:
            TARGETS[name].read(folder)
            outcomes["read"] += 1
        except ConcordantError as error:
            outcomes["refused"] += 1
            try:
                checked(error)
            except ValueError as fault:
                wrong.append({**about, "fault": str(fault)})
        except TooSlowError:
            spent = time.process_time() - start
            wrong.append({**about, "fault": f"more than {SECONDS} s of computing or {WAIT} s in all ({spent:.1f} s)"})
        except BaseException as error:
            wrong.append({**about, "fault": f"{type(error).__name__}: {str(error)[:300]}", "where": where(error)})
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        slowest = max(slowest, time.process_time() - start)
    peak = _peak()
    return {"cases": count, **outcomes, "wrong": wrong, "slowest_s": round(slowest, 2), "peak_bytes": peak}


def _peak() -> int:
    """Return the peak of resident memory, in bytes; `ru_maxrss` would count that of the parent process as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10


def where(error: BaseException) -> list[str]:
    """Return the last lines of our code in a traceback."""
    found, step = [], error.__traceback__
    while step is not None:
        found.append(f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}")
        step = step.tb_next
    return found[-6:]


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--now", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.targets.split(","), options.count, options.seed, Path(folder), options.now)
    sys.stdout.write("".join(f"{json.dumps(one)}\n" for one in found["wrong"]))
    sys.stdout.write(f"{json.dumps({**found, 'wrong': len(found['wrong'])})}\n")
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
