"""The model card beside shared weights: inputs, outputs, results, and the calibrator.

Markdown with the metadata of the Hugging Face Hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCardData
from torch import nn

from concordant.attach.harm import Guarantee
from concordant.attach.wrapper import Attached
from concordant.benchmarks.catalogue import DATASETS
from concordant.calibration import Calibrator, ContextualCalibrator
from concordant.deploy.deployed import Description, HubFields
from concordant.errors import printable
from concordant.files import markdown_text
from concordant.report.format import shown
from concordant.rivals import CALIBRATORS

WORDS = {
    "bd": "vector",
    "btd": "sequence of vectors",
    "bchw": "map (channels, rows, columns)",
    "bcthw": "film (channels, frames, rows, columns)",
}

TAGS = ["multimodal", "calibration", "robustness"]

USE = """## Use

```python
from concordant.deploy.pretrained import PretrainedModel

model = PretrainedModel.from_pretrained("this folder, or its name on the Hub")
out = model(inputs, masks, present)  # inputs as they were measured: scaling is within
out.logits                           # (B, {outputs})
out.calibration.reliability          # (B, {count}): {names}
```

`inputs` is a dictionary from modality to a float32 tensor; `masks` (bool (B, T), True at valid steps) and `present`
(bool (B,), True where an instance has the modality) may be left out, or name some of the modalities. Without
Concordant's Python code there is `concordant export`, and for many instances `concordant predict`.
"""

RELIABILITY = """## What the calibrator does

`{label}`: {summary}.{paper} Before the modalities are fused, each one's features are scaled by its reliability, one
number an instance, and by gates, one number a feature. A reliability of 1 takes the modality as it is; near 0 it is
suppressed; it is 0 where the modality is absent. Reliability is learnt from perturbations inflicted in training: it
says how unusual a modality looks to the others, not whether the prediction is right.
"""

NONE = """## What the calibrator does

Nothing: this is the model without calibration, for comparison. Its reliability is 1 wherever a modality is present.
"""


PLUGIN = """
# {name} with a calibrator attached

{parameters:,} parameters, of which the calibrator has {own:,}. The model itself, and the code that builds it, are those
of {origin}.

## Use

```python
from functools import partial

from concordant import ContextualCalibrator, attach
from safetensors.torch import load_file

attached = attach(
    model,  # built by its own code
    {taps},
    layout={layouts},
    sizes={sizes},
    calibrator=partial({calibrator}{options}),{at}
)
attached.load_state_dict(load_file("model.safetensors"))
out = attached.eval()(*inputs)      # as the model is called
attached.calibration.reliability    # (B, {count}): {names}
```

Give `attach` the masks, presence and other arguments that it had in training.
"""


def head(about: HubFields, tags: Sequence[str] = (), **results: Any) -> str:  # noqa: ANN401 - as huggingface_hub has them
    """Return the metadata that the Hub reads, between its lines of dashes."""
    data = ModelCardData(
        license=about.license,
        datasets=list(about.datasets) or None,
        base_model=about.base_model,
        library_name="concordant",
        pipeline_tag="other",
        tags=[*TAGS, *tags],
        **results,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def plugin_card(attached: Attached, about: HubFields) -> str:
    """Return the card of an attached model, whose calibrator is built, with what `fit_plugin` guarantees."""
    calibrator = cast(Calibrator, attached.calibrator)
    given = {name: getattr(calibrator, name, None) for name in ("classes", "comparison_size", "fill", "absent")}
    options = {} if type(calibrator) is not ContextualCalibrator else given
    at = attached.settings.at
    text = PLUGIN.format(
        name=type(attached.model).__name__,
        parameters=sum(p.numel() for p in attached.parameters()),
        own=sum(p.numel() for p in calibrator.parameters()),
        origin=about.base_model or type(attached.model).__module__,
        taps=attached.taps,
        layouts=dict(attached.settings.layouts),
        sizes=calibrator.sizes,
        calibrator=type(calibrator).__name__,
        options="".join(f", {name}={value!r}" for name, value in options.items()),
        at="" if at is None else f"\n    at={getattr(at, 'written', at)!r},",
        count=len(calibrator.names),
        names=", ".join(calibrator.names),
    )
    return "\n".join([head(about, tags=["plug-in"]) + text, *_guarantee(calibrator)])


def _guarantee(calibrator: nn.Module) -> list[str]:
    promise = getattr(calibrator, "promise", None)
    return [] if promise is None else [f"## Guarantee\n\n{Guarantee.of(promise)}\n"]


def model_card(about: Description, parameters: int, calibrator: nn.Module | None = None) -> str:
    """Return the card of a model of so many parameters; the state of its calibrator may hold a guarantee."""
    variant = next(one for one in about.config.variants if one.label == about.label)
    name = variant.calibrator
    entry = CALIBRATORS[name]
    paper = f" After {entry.paper}." if entry.paper else ""
    what = NONE
    if name != "none":
        what = RELIABILITY.format(label=name, summary=entry.summary, paper=paper)
    names = printable(", ".join(about.names)).replace("\n", " ").replace("`", "'")
    table = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", about.table)
    outputs = len(about.classes) if about.kind == "class" else 1
    recipe = ", ".join(f"{key} {value}" for key, value in about.config.of(variant).recipe.model_dump().items())
    blocks = [
        f"{_head(about)}\n# {about.config.title}: {about.config.fusion} fusion, calibrator {shown(about.label)}\n",
        f"{parameters:,} parameters, trained by `concordant run` on {about.config.title} (protocol "
        f"{about.config.protocol}, seed {about.seed}).\n",
        _inputs(about),
        _outputs(about),
        USE.format(
            outputs=outputs,
            count=len(about.names),
            names=names,
        ),
        what,
        *_guarantee(calibrator or nn.Module()),
        f"## Results\n\nOf all seeds of the experiment; this model is seed {about.seed}.\n\n{table}"
        if about.table
        else "",
        f"## Training\n\n{recipe}; encoders {about.config.encoders}, sizes {about.config.preset}, method "
        f"{about.config.method}.{_origin(about.config.benchmark)}\n",
    ]
    return "\n".join(block for block in blocks if block)


def _head(about: Description) -> str:
    """Return metadata with the scores of this model."""
    config = about.config
    scores = [
        EvalResult("other", config.benchmark, config.title, metric, round(value, 4), metric_name=f"{metric}, clean")
        for metric, value in about.metrics.items()
    ]
    results: dict[str, Any] = {"metrics": list(about.metrics), "eval_results": scores} if scores else {}
    name = f"{config.title}-{config.fusion}-{about.label}"
    return head(about.about, ["pytorch_model_hub_mixin", "model_hub_mixin"], model_name=name, **results)


def _origin(benchmark: str) -> str:
    """Return where the data are published, and their licence."""
    if benchmark not in DATASETS:
        return ""
    entry = DATASETS[benchmark]
    return f"\n\nData: {entry.title} ({entry.home}); licence: {entry.licence}."


def _inputs(about: Description) -> str:
    rows = []
    for name in about.names:
        time, sizes = about.time(name), about.shapes[name]
        shape = ["B", *("T" if axis + 1 == time else str(size) for axis, size in enumerate(sizes))]
        longest = f", up to {sizes[time - 1]} steps in the dataset" if time is not None else ""
        rows.append(f"| {markdown_text(name)} | {WORDS[about.layouts[name]]}{longest} | ({', '.join(shape)}) |")
    return "\n".join(["## Inputs\n", "| modality | what | shape |", "| --- | --- | --- |", *rows]) + "\n"


def _outputs(about: Description) -> str:
    names = [markdown_text(name) for name in about.classes]
    if about.kind == "real":
        return f"It predicts one number: below 0 {names[0]}, else {names[-1]}.\n"
    return f"Classes, in the order of the logits: {', '.join(names)}.\n"
