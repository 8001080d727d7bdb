"""The command line: joins the commands of the files beside this one; the layers below do the work.

Exit status: 0, 1 (a job failed, or a file cannot be used), 2 (wrong use), 130 (Ctrl-C; 128 + number for other signals).
With `--json -` standard output holds JSON and nothing else; messages then go to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

from concordant import __version__
from concordant.errors import MissingExtraError, needs_extra

try:
    with needs_extra("experiments", "the commands need"):
        import typer

        from concordant.cli.analyses import inspect_command, report_command, stress_command
        from concordant.cli.data import data_app
        from concordant.cli.deploy import export_command, predict_command, share_command
        from concordant.cli.edge import run
        from concordant.cli.listing import list_command
        from concordant.cli.run import run_command
        from concordant.cli.speed import speed_command
        from concordant.cli.sweep import sweep_command
        from concordant.cli.taps import taps_command
        from concordant.cli.terminal import take_plain_numbers
except MissingExtraError as missing:
    sys.exit(f"concordant: {missing}")

app = typer.Typer(
    name="concordant",
    help="Calibrate multimodal features before they are fused, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMPARE, OWN, USE, LARGE = "Compare", "A model of your own", "Use a trained run", "Many runs, and their cost"
# Common commands first: panel of the help -> command -> what it runs and an example.
COMMANDS: dict[str, dict[str, tuple[Callable[..., None], str]]] = {
    COMPARE: {
        "run": (run_command, "concordant run digits --seeds 3"),
        "report": (report_command, "concordant report runs/digits-concat"),
        "stress": (stress_command, "concordant stress runs/digits-concat --removal"),
        "inspect": (inspect_command, "concordant inspect runs/digits-concat"),
        "list": (list_command, "concordant list fusions"),
    },
    OWN: {"taps": (taps_command, "concordant taps mypackage.models:build")},
    USE: {
        "predict": (predict_command, "concordant predict runs/digits-concat --out predictions.csv"),
        "export": (export_command, "concordant export runs/digits-concat --format onnx --out model.onnx"),
        "share": (share_command, "concordant share runs/digits-concat --out model --license apache-2.0"),
    },
    LARGE: {
        "sweep": (sweep_command, "concordant sweep grid.yaml --cpus 8"),
        "speed": (speed_command, "concordant speed --quick"),
    },
}
DATA_EXAMPLES = {
    "list": "concordant data list",
    "prepare": "concordant data prepare scene15 --source scene15_mtv.mat",
    "check": "concordant data check data/mine",
    "describe": "concordant data describe data/mine",
    "from-numpy": "concordant data from-numpy arrays.npz --out data/mine",
    "from-csv": "concordant data from-csv table.csv --out data/mine",
}
for panel, commands in COMMANDS.items():
    for name, (command, example) in commands.items():
        app.command(name, rich_help_panel=panel, epilog=f"Example: {example}")(command)
for one in data_app.registered_commands:
    one.epilog = f"Example: {DATA_EXAMPLES.get(str(one.name), '')}"
for one in (*app.registered_commands, *data_app.registered_commands):
    if one.callback is not None:
        take_plain_numbers(one.callback)
app.add_typer(data_app, name="data", rich_help_panel=COMPARE)


def main() -> None:
    """Run the command line; the entry point of the console script."""
    run(app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"concordant {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Calibrate multimodal features before they are fused, and prove it."""
