"""`concordant share`: write one trained run as a folder that others can load, with safetensors weights.

FOLDER/model.safetensors  weights, and the scaling of the inputs
FOLDER/config.json        the description of the model
FOLDER/README.md          the model card
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.deploy.opening import open_deployed
from concordant.errors import UsageError, foreign, needs_extra
from concordant.files import new_folder
from concordant.training.provenance import versions
from concordant.training.runs import RunFolder

SCHEMA = "concordant.shared/1"


def share_run(
    runs: RunFolder, out: Path, *, label: str | None = None, seed: int = 0, data: Path | str | None = None
) -> dict[str, Any]:
    """Write one trained run as a folder for others; return its description.

    Args:
        runs: a folder of `concordant run`.
        out: the folder; it must not exist, or be empty.
        label: a calibrator; None = context, or else the last of the folder.
        seed: the seed of the run.
        data: the data folder, whose training split gives the scaling.

    Raises:
        UsageError: there is no such run, or the folder is in use.
        ConcordantError: huggingface_hub is not installed.
        DataError: the data or the weights cannot be used.
    """
    with needs_extra("export", "sharing needs"):
        from concordant.deploy.pretrained import PretrainedModel
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is in use; name a new folder with --out")
    found = open_deployed(runs, label=label, seed=seed, data=data, kind=PretrainedModel)
    model = found.model
    if not isinstance(model, PretrainedModel):  # for the type checker
        raise TypeError(f"a PretrainedModel was asked for; found {type(model).__name__}")
    try:
        with new_folder(out, "config.json") as partial:
            model.save_pretrained(partial)
    except OSError as error:
        raise UsageError(f"--out: cannot write to {out} ({foreign(error)})") from None
    return {
        "schema": SCHEMA,
        "folder": str(out),
        "files": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
        "label": found.label,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
    }
