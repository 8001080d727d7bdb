"""The model card beside shared weights: inputs, outputs, results, and the calibrator.

Markdown with the metadata of the Hugging Face Hub.
"""

from __future__ import annotations

import re

from concordant.deploy.deployed import Description
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

HEAD = """---
library_name: concordant
pipeline_tag: other
tags:
- multimodal
- calibration
- robustness
- pytorch_model_hub_mixin
- model_hub_mixin
---
"""

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


def model_card(about: Description, parameters: int) -> str:
    """Return the card of a model.

    Args:
        about: the model.
        parameters: their number.
    """
    variant = next(one for one in about.config.variants if one.label == about.label)
    calibrator = variant.calibrator
    entry = CALIBRATORS[calibrator]
    paper = f" After {entry.paper}." if entry.paper else ""
    what = NONE
    if calibrator != "none":
        what = RELIABILITY.format(label=calibrator, summary=entry.summary, paper=paper)
    names = printable(", ".join(about.names)).replace("\n", " ").replace("`", "'")
    table = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", about.table)
    outputs = len(about.classes) if about.kind == "class" else 1
    recipe = ", ".join(f"{key} {value}" for key, value in about.config.of(variant).recipe.model_dump().items())
    blocks = [
        f"{HEAD}\n# {about.config.title}: {about.config.fusion} fusion, calibrator {shown(about.label)}\n",
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
        f"## Results\n\nOf all seeds of the experiment; this model is seed {about.seed}.\n\n{table}"
        if about.table
        else "",
        f"## Training\n\n{recipe}; encoders {about.config.encoders}, sizes {about.config.preset}, method "
        f"{about.config.method}.\n",
    ]
    return "\n".join(block for block in blocks if block)


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
