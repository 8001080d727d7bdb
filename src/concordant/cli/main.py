"""The command line: joins the commands of the files beside this one; the layers below do the work.

Exit status: 0, 1 (a job failed, or a file cannot be used), 2 (wrong use), 130 (Ctrl-C; 128 + number for other signals).
With `--json -` standard output holds JSON and nothing else; messages then go to standard error.
"""

from __future__ import annotations

import sys

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
except MissingExtraError as missing:
    sys.exit(f"concordant: {missing}")

app = typer.Typer(
    name="concordant",
    help="Calibrate multimodal features before they are fused, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run_command)
app.command("list")(list_command)
app.add_typer(data_app, name="data")
app.command("stress")(stress_command)
app.command("inspect")(inspect_command)
app.command("report")(report_command)
app.command("taps")(taps_command)
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("share")(share_command)
app.command("sweep")(sweep_command)
app.command("speed")(speed_command)


def main() -> None:
    """Run the command line; the entry point of the console script."""
    run(app)


@app.callback()
def _root() -> None:
    """Calibrate multimodal features before they are fused, and prove it."""
