"""`concordant export`, `concordant share` and `concordant predict`: use of trained runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from concordant.cli.terminal import DataOption, JsonOption, RunArgument, make_console, progress_bar, put_json

Method = Annotated[
    str | None, typer.Option("--calibrator", help="A calibrator of the folder; default: context, or the last.")
]
Seed = Annotated[int, typer.Option(help="The seed of the run.")]


def export_command(
    run: RunArgument,
    format_: Annotated[str, typer.Option("--format", help="onnx, or torch-export.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; default: model.onnx or model.pt2 in the folder.")] = None,
    calibrator: Method = None,
    seed: Seed = 0,
    data: DataOption = None,
    fixed_time: Annotated[
        bool, typer.Option("--fixed-time", help="Sequences of the longest number of steps of training, not of any.")
    ] = False,
    json_to: JsonOption = None,
) -> None:
    """Write a trained run as a file that needs no Concordant: unscaled inputs, masks and presence in, reliability out.

    The file is checked against PyTorch on real test samples before it takes its place.
    """
    from concordant.deploy.export import export_run
    from concordant.training.runs import open_runs

    start, console = time.perf_counter(), make_console(json_to)
    found = export_run(
        open_runs(run), format=format_, out=out, label=calibrator, seed=seed, data=data, fixed_time=fixed_time
    )
    check = found["check"]
    for entry in found["inputs"]:
        console.print(f"{entry['name']}: {entry['dtype']} ({', '.join(map(str, entry['shape']))})", markup=False)
    console.print(
        f"{found['file']}: {found['label']} before {found['fusion']}, seed {found['seed']}, {found['bytes']:,} bytes; "
        f"at most {check['largest_difference']:.0e} from PyTorch on {check['samples']} test samples "
        f"({time.perf_counter() - start:.0f} s)",
        markup=False,
    )
    put_json(json_to, found)


def share_command(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The folder that is made.")],
    calibrator: Method = None,
    seed: Seed = 0,
    data: DataOption = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Of the weights, for the model card: apache-2.0, cc-by-4.0, ...")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The data's name on the Hugging Face Hub, for the model card.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="The model on the Hub that it was made of, for the model card.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Write a trained run as a folder that others can load: safetensors, configuration and a model card."""
    from concordant.deploy.deployed import HubFields
    from concordant.deploy.sharing import share_run
    from concordant.training.runs import open_runs

    about = HubFields(license=license_, datasets=() if dataset is None else (dataset,), base_model=base_model)
    found = share_run(open_runs(run), out, label=calibrator, seed=seed, data=data, about=about)
    make_console(json_to).print(
        f"{out}: {', '.join(found['files'])}; {found['label']}, seed {found['seed']}, {found['parameters']:,} "
        "parameters; PretrainedModel.from_pretrained loads it, .push_to_hub(name) uploads it",
        markup=False,
    )
    put_json(json_to, found)


def predict_command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder that `concordant run` or `concordant share` made.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Data folder, for its test part; or another prepared dataset, for all of its instances."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file: .parquet or .csv.")] = Path("predictions.parquet"),
    trained_on: Annotated[
        Path | None, typer.Option(help="The data folder of the training, where --data names another dataset.")
    ] = None,
    calibrator: Method = None,
    seed: Seed = 0,
    json_to: JsonOption = None,
) -> None:
    """Write predictions, with the reliability of each modality of every instance."""
    from concordant.deploy.predicting import predict_run

    start, console = time.perf_counter(), make_console(json_to)
    with progress_bar("predicting") as progress:
        found = predict_run(run, out, data=data, trained_on=trained_on, label=calibrator, seed=seed, progress=progress)
    score = "" if found["accuracy"] is None else f", {100 * found['accuracy']:.1f} % right"
    told = (
        ""
        if found["reliability"] is None
        else "; mean reliability: "
        + ", ".join(
            f"{name} {'absent' if value is None else f'{value:.2f}'}" for name, value in found["reliability"].items()
        )
    )
    console.print(
        f"{out}: {found['instances']:,} instances by {found['label']}, seed {found['seed']}{score}{told} "
        f"({time.perf_counter() - start:.0f} s)",
        markup=False,
    )
    put_json(json_to, found)
