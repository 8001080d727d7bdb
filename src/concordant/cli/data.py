"""`concordant data`: list, prepare, check and describe datasets, or make one from your own arrays and tables."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.terminal import DataOption, JsonOption, Progress, make_console, progress_bar, put_json
from concordant.errors import DataError, UsageError, printable

if TYPE_CHECKING:
    from concordant.benchmarks.benchmark import Dataset
    from concordant.data.findings import Report
    from concordant.data.formats.own import Labels
    from concordant.data.reading import Reading
    from concordant.data.store import Instance

data_app = typer.Typer(
    help="Prepare and check datasets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

OUT = Annotated[Path, typer.Option(help="Folder of the dataset; must not exist, or be empty.")]
HOME = Annotated[
    Path | None,
    typer.Option(help="Folder to write to; default: where `concordant run` looks (CONCORDANT_DATA, or the user's)."),
]
NAME = Annotated[str | None, typer.Option(help="Name of the dataset; default: the file's.")]
LABELS = Annotated[
    str, typer.Option(help="What labels are: classes, numbers to predict, or auto: numbers where one has a fraction.")
]
LABELS_OF_ARCHIVES = ("label", "action", "emotion", "digit_wav", "y_train", "y_test")
FOLDER = Annotated[Path, typer.Argument(help="Folder of a prepared dataset.")]


@data_app.command("list")
def list_command(data: DataOption = None, json_to: JsonOption = None) -> None:
    """List the datasets that can be prepared: whether they are there, files needed, source, size, licence."""
    from rich.text import Text

    from concordant.benchmarks.catalogue import DATASETS, found_at

    entries = [(DATASETS[name], found_at(name, data)) for name in DATASETS]
    put_json(
        json_to,
        [
            {k: v for k, v in vars(one).items() if k not in ("read", "classes", "published")}
            | {"published": dict(one.published), "there": None if place is None else str(place)}
            for one, place in entries
        ],
    )
    if json_to == "-":
        return
    console = make_console(json_to)
    for one, place in entries:
        counts = ", ".join(f"{count:,} {split}" for split, count in one.published.items())
        console.print(Text.assemble((one.name, "bold"), f"  {one.title}"))
        for what, text in (
            ("there", str(place) if place else f"no; concordant data prepare {one.name} --source PATH"),
            ("files", one.files),
            ("from", one.home),
            ("size", f"{one.size}; {counts}"),
            ("licence", one.licence),
            ("paper", one.citation),
            *(("flaw", flaw) for flaw in one.flaws),
        ):
            console.print(f"  {what:8}{text}", soft_wrap=True)


@data_app.command("prepare")
def prepare_command(
    name: Annotated[str, typer.Argument(help="A dataset of `concordant data list`.")],
    source: Annotated[Path, typer.Option(help="The published file or folder.")],
    out: HOME = None,
    spectrogram: Annotated[
        str | None, typer.Option(help="Recipe of the audio: ogm-ge, pmr, pmr-10s, mmpareto, mla, logmel.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second to take from films.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames to keep per clip.")] = None,
    size: Annotated[str | None, typer.Option(help="Height and width of frames: 224, or 120x160.")] = None,
    split: Annotated[int | None, typer.Option(help="Which of several published splits to use.")] = None,
    lists: Annotated[Path | None, typer.Option(help="Folder of the split lists; default: within the source.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes that decode; default: one per core.")] = None,
    may_fail: Annotated[float | None, typer.Option(help="Share of clips that may be missing or broken.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of decoded clips; default: beside the dataset, removed at the end.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Prepare a dataset from published files for `concordant run`; docs/benchmarks.md says where they are."""
    from concordant.benchmarks.catalogue import DATASETS
    from concordant.training.processes import default_jobs

    dataset = DATASETS[name]
    if not source.exists():
        raise UsageError(f"--source {source} is not there; {name} takes {dataset.files} (from {dataset.home})")
    asked = {
        "spectrogram": spectrogram,
        "fps": fps,
        "frames": frames,
        "size": None if size is None else _size(size),
        "split": split,
        "lists": lists,
        "processes": processes,
        "may_fail": may_fail,
        "cache": cache,
    }
    given = {option: value for option, value in asked.items() if value is not None}
    start, out = time.perf_counter(), _place(out, dataset)
    if dataset.archive:
        _write(dataset, source, given, out, json_to, start)
        return
    place = out.resolve()
    own = place.parent / f".{place.name}.decoded"
    if name != "ave-clips" or given:  # the features of ave-clips need no decoding
        given |= {} if "cache" in given or "cache" not in dataset.options else {"cache": own}
        given |= {} if "processes" in given or "processes" not in dataset.options else {"processes": default_jobs()}
    read = dataset.open(source, given)
    if not isinstance(read, dict):
        _store(read, out, json_to, start)
    shutil.rmtree(own, ignore_errors=True)


@data_app.command("from-numpy")
def from_numpy_command(
    path: Annotated[Path, typer.Argument(help="An .npz archive, a folder of .npy files, or a MATLAB file.")],
    out: OUT,
    name: NAME = None,
    labels: LABELS = "auto",
    json_to: JsonOption = None,
) -> None:
    """Make a dataset from your own NumPy or MATLAB arrays; docs/own-data.md has the names."""
    from concordant.data.formats.own import read_numpy

    start = time.perf_counter()
    _store(read_numpy(path, name=name, labels=_labels(labels)), out, json_to, start)


@data_app.command("from-csv")
def from_csv_command(
    path: Annotated[Path, typer.Argument(help="A CSV file with a line of column names, or a Parquet file.")],
    out: OUT,
    modality: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A modality's features in a CSV file of its own; may be repeated."),
    ] = None,
    name: NAME = None,
    labels: LABELS = "auto",
    json_to: JsonOption = None,
) -> None:
    """Make a dataset from your own table; docs/own-data.md has the names of columns."""
    from concordant.data.formats.tables import read_csv

    files: dict[str, Path] = {}
    for text in modality or ():
        key, equals, file = text.partition("=")
        if not (key and equals and file) or key in files:
            raise UsageError(f"--modality must be NAME=FILE, each name once; found {text!r}")
        files[key] = Path(file)
    start = time.perf_counter()
    _store(read_csv(path, name=name, labels=_labels(labels), modalities=files), out, json_to, start)


@data_app.command("check")
def check_command(folder: FOLDER, json_to: JsonOption = None) -> None:
    """Report the faults of a dataset; exit status 1 if there are errors, 0 if there are warnings only."""
    from concordant.benchmarks.catalogue import DATASETS
    from concordant.data.card import read_card
    from concordant.data.checking import check
    from concordant.data.findings import Finding

    known = None
    with suppress(DataError):  # reported by check below
        if (name := read_card(folder).name) in DATASETS:
            known = DATASETS[name]
    with progress_bar("checking") as progress:
        report = check(
            folder,
            published=None if known is None else known.published,
            published_classes=None if known is None else known.classes,
            progress=progress,
        )
    if not report.failed and (refusal := _refusal(folder)) is not None:
        report = replace(report, findings=(*report.findings, Finding("error", "splits", refusal)))
    report = _with_features(folder, report)
    put_json(json_to, report.to_json())
    console = make_console(json_to)
    if report.task:
        console.print(f"task: {report.task}", soft_wrap=True)
    for split, counts in report.counts.items():
        shown = ", ".join(f"{name} {count:g}" for name, count in counts.items())
        console.print(f"{split}: {shown}", soft_wrap=True)
    for finding in report.findings:
        console.print(f"{finding.level}: {finding.subject}: {finding.text}", soft_wrap=True)
    errors = sum(finding.level == "error" for finding in report.findings)
    warnings = sum(finding.level == "warning" for finding in report.findings)
    console.print(f"{errors} errors, {warnings} warnings in {folder}")
    if report.failed:
        raise typer.Exit(1)


@data_app.command("describe")
def describe_command(folder: FOLDER) -> None:
    """Print a data card in Markdown."""
    from concordant.data.description import describe

    typer.echo(printable(describe(folder)))


def _refusal(folder: Path) -> str | None:
    """Return why `concordant run` would refuse to divide a dataset, None where it would not or has no labels."""
    from concordant.benchmarks.prepared import split
    from concordant.data.store import Store
    from concordant.data.stored import everything

    try:
        whole = everything(Store(folder))
        if whole.store.card.label.kind != "none":
            split(whole, 0, "given")
    except DataError as error:
        return str(error)
    return None


def _with_features(folder: Path, report: Report) -> Report:
    """Return the report with a warning where features look fitted on the published training split."""
    from concordant.benchmarks.catalogue import prepare, stored_as
    from concordant.study.leakage import check_features

    if report.failed:
        return report
    fitted = None
    with suppress(DataError):  # there are no labels
        stored = stored_as(folder)
        if stored.protocol == "given":
            fitted = check_features(prepare(stored.benchmark, seed=0, data=folder))
    return report if fitted is None else replace(report, findings=(fitted, *report.findings))


def _labels(text: str) -> Labels:
    from concordant.data.formats.own import LABELS

    for known in LABELS:
        if text == known:
            return known
    raise UsageError(f"--labels must be one of {', '.join(LABELS)}; found {text!r}")


def _size(text: str) -> tuple[int, int]:
    """Return height and width."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"0*[1-9][0-9]{0,4}", part) for part in parts):
        raise UsageError(f"--size must be a number such as 224, or height x width such as 120x160; found {text!r}")
    return int(parts[0]), int(parts[-1])


def _place(out: Path | None, dataset: Dataset) -> Path:
    """Return the folder to write to: the one given, or that in which `concordant run` looks for the dataset."""
    from concordant.data.archives import VARIABLE, default_folder, is_url, named_data

    if out is not None:
        return out
    named = named_data(None)
    if is_url(named):
        raise UsageError(f"{VARIABLE} is a URL, to which nothing is written; name a folder with --out")
    folder = Path(named) if named is not None else default_folder()
    return folder if dataset.archive else folder / dataset.name


def _write(
    dataset: Dataset, source: Path, options: dict[str, Any], out: Path, json_to: str | None, start: float
) -> None:
    """Write an archive and print a summary."""
    from concordant.data.archives import write_archive

    arrays = dataset.open(source, options)
    if not isinstance(arrays, dict):
        raise TypeError(f"{dataset.name} is not read as arrays")
    write_archive(out / dataset.archive, arrays)
    shapes = {key: list(values.shape) for key, values in arrays.items()}
    put_json(json_to, {"file": str(out / dataset.archive), "arrays": shapes})
    console = make_console(json_to)
    console.print(f"{dataset.name}: {', '.join(f'{key} {tuple(shape)}' for key, shape in shapes.items())}")
    rows, published = (
        sum(len(arrays[key]) for key in LABELS_OF_ARCHIVES if key in arrays),
        sum(dataset.published.values()),
    )
    if rows != published:
        console.print(f"note: it has {rows:,} rows where {published:,} are published: results do not compare")
    console.print(
        f"{time.perf_counter() - start:.0f} s; next: concordant run {dataset.name} --data {out}", soft_wrap=True
    )


def _store(reading: Reading, out: Path, json_to: str | None, start: float) -> None:
    """Write a dataset and print a summary."""
    from concordant.benchmarks.catalogue import BENCHMARKS
    from concordant.data.writing import write_store

    with progress_bar("preparing") as progress:
        card = write_store(out, reading.card, _watched(reading.instances, progress), findings=reading.findings)
    put_json(json_to, {"folder": str(out), **card.model_dump(mode="json")})
    console = make_console(json_to)
    console.print(f"{card.name}: {card.rows:,} instances of {', '.join(card.modalities)} in {out}")
    console.print(f"task: {card.label}", soft_wrap=True)
    for name, text in card.repairs.items():
        console.print(f"repaired: {name}: {text}")
    for note in card.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if (refusal := _refusal(out)) is not None and card.label.kind != "none":
        console.print(f"warning: concordant run will refuse it: {refusal}", soft_wrap=True)
    name = f"./{out}" if str(out) in BENCHMARKS else str(out)
    console.print(f"{time.perf_counter() - start:.0f} s; next: concordant data check {name}, concordant run {name}")


def _watched(instances: Iterable[Instance], progress: Progress) -> Iterator[Instance]:
    for done, instance in enumerate(instances, 1):
        progress(done, 0, instance.id)
        yield instance
