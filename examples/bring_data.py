"""Recordings of three sensors as an archive: `python examples/bring_data.py [mine.npz]`.

Stands in for the script that exports your recordings. The commands of docs/tutorials/data.md go on from here, and
`--picture RUN FOLDER` draws what they found as `data.png`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

# --8<-- [start:archive]
import numpy as np

ACTIVITIES, PERSONS, TAKES = ["sit", "stand", "walk", "run", "climb", "jump"], 30, 40


def recordings() -> dict[str, np.ndarray]:
    """Return arrays by column: one row per recording, one array per modality."""
    draws = np.random.default_rng(0)
    label = draws.integers(0, len(ACTIVITIES), PERSONS * TAKES)
    arrays = {}
    for name, size in {"wrist": 12, "camera": 20, "sound": 8}.items():
        usual = draws.standard_normal((len(ACTIVITIES), size))  # what the modality looks like for each activity
        arrays[name] = (usual[label] + 1.2 * draws.standard_normal((len(label), size))).astype(np.float32)
    return {
        **arrays,
        "label": label,
        "classes": np.array(ACTIVITIES),
        "group": np.arange(len(label)) // TAKES,  # recordings of one person never lie on both sides of a split
        "camera_present": draws.random(len(label)) > 0.05,  # some recordings have no film
    }


# --8<-- [end:archive]
def main() -> None:
    """Write the archive, or draw the results of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", nargs="?", default="mine.npz", help="default: mine.npz")
    parser.add_argument("--picture", nargs=2, metavar=("RUN", "FOLDER"), help="draw the results of a run instead")
    arguments = parser.parse_args()
    if arguments.picture:
        run, folder = map(Path, arguments.picture)
        draw(json.loads((run / "results.json").read_text(encoding="utf-8"))["runs"], folder / "data.png")
    else:
        # --8<-- [start:save]
        np.savez(arguments.archive, **recordings())
        # --8<-- [end:save]


def draw(runs: list[dict], path: Path) -> None:
    """Draw the mean accuracy over seeds, clean and under every corruption, as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    methods = {"none, clean": "#9aa1ab", "none, perturbed": "#5f6875", "context": "#1b7f5f"}
    for place, (method, colour) in enumerate(methods.items()):
        calibrator, _, training = method.partition(", ")
        of = [run for run in runs if run["calibrator"] == calibrator]
        of = [run for run in of if not training or run["perturbed_training"] == (training == "perturbed")]
        found = [{"clean": run["clean"], **run["corruption"]} for run in of]
        scores = {name: np.mean([run[name]["accuracy"] for run in found]) for name in found[0]}
        axes.bar(np.arange(len(scores)) + 0.27 * (place - 1), list(scores.values()), 0.25, color=colour, label=method)
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set_ylabel("accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
