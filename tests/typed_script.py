"""What type checkers see of Concordant: `make check` has mypy check this file, and `tests/test_types.py` pyright.

Both refuse a `type: ignore` without an error on its line.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnknownMemberType=false

from typing import assert_type

import numpy as np
import torch
from torch import Tensor, nn

import concordant
from concordant import (
    Calibration,
    ContextualCalibrator,
    Modalities,
    Monitor,
    MultimodalClassifier,
    NoCalibrator,
    SelfGate,
    attach,
    fit_plugin,
)

sizes = {"text": 4, "audio": 3}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calibrate = ContextualCalibrator(sizes)
        self.head = nn.Linear(7, 2)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        found = self.calibrate(features)
        assert_type(found, Calibration)
        return torch.cat([found.features["text"], found.features["audio"]], 1)


def script() -> None:
    features = {name: torch.randn(8, size) for name, size in sizes.items()}
    layouts = {"text": "bd", "audio": "auto"}

    calibrate = ContextualCalibrator(sizes, layouts=layouts, nonfinite="absent", fill="context", absent="fill")
    out = calibrate(features, present={"audio": torch.ones(8, dtype=torch.bool)}, labels=torch.zeros(8))
    assert_type(out, Calibration)
    assert_type(out.features["text"], Tensor)
    assert_type(calibrate.auxiliary_loss(), Tensor)
    assert_type(SelfGate(sizes, layouts="bd")(features), Calibration)
    assert_type(NoCalibrator(sizes)(features), Calibration)
    calibrate(features, label=torch.zeros(8))  # type: ignore[call-arg]
    ContextualCalibrator(sizes, nonfinite="ignore")  # type: ignore[arg-type]
    ContextualCalibrator(sizes, layouts="dbt")  # type: ignore[arg-type]
    ContextualCalibrator(sizes, fill="zeros")  # type: ignore[arg-type]

    attached = attach(nn.Linear(2, 2), {"text": "a", "audio": "b"}, layout="(b t)d", freeze="backbone")
    assert_type(attached.calibration, Calibration | None)
    assert_type(attached.auxiliary_loss(), Tensor)
    fit_plugin(nn.Linear(2, 2), [], "auto", learn="task", fill="mean")
    fit_plugin(nn.Linear(2, 2), [], "auto", learn="everything")  # type: ignore[arg-type]

    model = MultimodalClassifier(fusion="transformer", calibrator="gmu", dropout="auto", max_iter=20)
    assert_type(model.fit(Modalities({"a": np.ones((4, 2))}), [0, 1, 0, 1]), MultimodalClassifier)
    Monitor(attached, guarantee="ever")
    Monitor(attached, guarantee="always")  # type: ignore[arg-type]
    concordant.attach(nn.Linear(2, 2), "auto")
