"""Write one trained run (`concordant share`), or an attached model, as a folder that others can load.

FOLDER/model.safetensors  weights; of a run the scaling of the inputs too, of an attached model its guarantee
FOLDER/config.json        the description of the model, of a run
FOLDER/README.md          the model card
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from concordant.attach.wrapper import Attached
from concordant.deploy.deployed import HubFields
from concordant.deploy.opening import SHARED_WEIGHTS, open_deployed
from concordant.errors import UsageError, needs_extra, shown
from concordant.files import new_folder, writing
from concordant.training.provenance import versions
from concordant.training.runs import RunFolder

SCHEMA = "concordant.shared/1"


def share_run(
    runs: RunFolder,
    out: Path,
    *,
    label: str | None = None,
    seed: int = 0,
    data: Path | str | None = None,
    about: HubFields | None = None,
) -> dict[str, Any]:
    """Write one trained run as a folder for others; return its description.

    The folder must not exist, or be empty; other arguments are those of `open_deployed`.

    Raises:
        UsageError: there is no such run, or the folder is in use.
        ConcordantError: huggingface_hub is not installed.
        DataError: the data or the weights cannot be used.
    """
    with needs_extra("export", "sharing needs"):
        from concordant.deploy.pretrained import PretrainedModel
    _require_free(out)
    opened, _ = open_deployed(runs, label=label, seed=seed, data=data, kind=PretrainedModel, about=about)
    model = cast(PretrainedModel, opened)
    with writing(out), new_folder(out, "config.json") as partial:
        model.save_pretrained(partial)
    return {
        "schema": SCHEMA,
        "folder": str(out),
        "files": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
        "label": model.description.label,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
    }


def share_attached(
    attached: Attached,
    out: Path | str,
    *,
    license: str | None = None,  # noqa: A002 - the Hub's word
    datasets: Sequence[str] = (),
    base_model: str | None = None,
) -> None:
    """Write an attached model as a folder for others: weights as safetensors, and a model card.

    The card shows how the folder is loaded, and what `fit_plugin` guarantees (`Attached.guarantee`), which is part of
    the weights. The code of the model is not in the folder.

    Args:
        attached: with a calibrator.
        out: the folder; it must not exist, or be empty.
        license: of the weights, as the Hugging Face Hub writes it, such as "apache-2.0".
        datasets: on the Hub that it was trained on.
        base_model: on the Hub that the calibrator is attached to.

    Raises:
        UsageError: the model is not attached, has no calibrator yet, or the folder is in use.
        MissingExtraError: huggingface_hub is not installed.
    """
    with needs_extra("export", "sharing needs"):
        from concordant.deploy.model_card import plugin_card
        from concordant.deploy.pretrained import save_state
    if not isinstance(attached, Attached) or attached.calibrator is None:
        raise UsageError(
            f"attached must be what attach or fit_plugin returned, after its first batch; found {shown(attached)}"
        )
    out, about = Path(out), HubFields(license=license, datasets=tuple(datasets), base_model=base_model)
    _require_free(out)
    with writing(out), new_folder(out, SHARED_WEIGHTS) as partial:
        save_state(attached, partial / SHARED_WEIGHTS)
        (partial / "README.md").write_text(plugin_card(attached, about), encoding="utf-8")


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is in use; name a new folder with --out")
