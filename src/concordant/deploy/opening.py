"""Open a trained run, or a shared folder, as a deployed model.

The scaling is fitted on the training split of the run, chunk by chunk, without holding a dataset in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from concordant.data.scaling import fit_chunks
from concordant.data.split import Task
from concordant.deploy.deployed import SCHEMA, DeployedModel, HubFields, read_description
from concordant.deploy.raw import raw_parts
from concordant.documents import read_document
from concordant.errors import ConcordantError, DataError, UsageError, foreign
from concordant.files import check_file, check_size, read_json, reading
from concordant.report.tables.scores import brief
from concordant.statistics.comparisons import central
from concordant.training.runs import WEIGHTS, RunFolder, load_weights

SHARED_WEIGHTS = "model.safetensors"
M = TypeVar("M", bound=DeployedModel)


def open_deployed(
    runs: RunFolder,
    *,
    label: str | None = None,
    seed: int = 0,
    data: Path | str | None = None,
    kind: type[DeployedModel] = DeployedModel,
    about: HubFields | None = None,
) -> tuple[DeployedModel, Task]:
    """Return the model of one run of a folder, in evaluation mode, and the unscaled splits of its seed.

    Args:
        runs: the folder.
        label: a calibrator; None = context, or else the last of the folder.
        seed: the seed of the run.
        data: the data folder, whose training split gives the scaling.
        kind: the class of the model.
        about: metadata for its model card.

    Raises:
        UsageError: there is no such run.
        DataError: the data or the weights cannot be used.
    """
    variant = runs.variant(label if label is not None else central(runs.labels))
    if not 0 <= seed < runs.config.seeds:
        raise UsageError(f"seed must be one of 0..{runs.config.seeds - 1}, which {runs.path} has; found {seed}")
    parts = raw_parts(runs.config, seed, runs.source(data))
    clean = runs.entry(variant, seed)["clean"]
    with reading(runs.results, "results", "give the `concordant run` command again, with this file moved away"):
        table = brief(read_document(runs.results, "results"))
    description = {
        "schema": SCHEMA,
        "config": runs.config.model_dump(mode="json"),
        "label": variant.label,
        "seed": seed,
        "classes": list(parts.classes),
        "kind": parts.kind,
        "layouts": dict(parts.layouts),
        "shapes": {name: list(shape) for name, shape in parts.train.shapes.items()},
        "table": table,
        "metrics": {name: clean[name] for name in sorted(clean) if isinstance(clean[name], float)},
        "about": (about or HubFields()).model_dump(mode="json"),
        "files": runs.files,
    }
    model = kind(description=description)
    load_weights(model.model, runs.run(variant, seed) / WEIGHTS)
    model.set_scales(fit_chunks(parts.train.chunks(), parts.layouts))
    return model.eval(), parts


def load_shared(folder: Path) -> DeployedModel:
    """Return the model of a folder that `concordant share` wrote.

    Raises:
        DataError: a file is absent, broken, or not of this model.
    """
    path = folder / "config.json"
    values = read_json(path).get("description")
    if not isinstance(values, dict):
        raise DataError(f"{path} describes no model; name a folder that `concordant share` made")
    return load_described(DeployedModel, values, str(path), folder / SHARED_WEIGHTS).eval()


def load_described(kind: type[M], values: dict[str, Any], where: str, weights: Path) -> M:
    """Return the model of a description with its weights.

    Raises:
        DataError: the description cannot be used or announces far larger layers than the weights have, or the weights
            are absent, broken, or not of this model.
    """
    about, held = read_description(values, where), check_file(weights, "safetensors")
    width = about.config.of(about.config.variants[0]).recipe.width
    for size in (width, *(size for shape in about.shapes.values() for size in shape)):
        check_size(f"{where}: a layer of {size} by {width}", 4 * size * width, held)
    try:
        model = kind(description=values)
    except ConcordantError:
        raise
    except Exception as error:  # modules refuse impossible sizes in any way
        raise DataError(f"{where} describes no model that can be built ({foreign(error)}); share it again") from None
    load_weights(model, weights, source="config.json", remedy="share the model again")
    return model
