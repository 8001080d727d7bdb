"""A calibrator in a training loop of your own: `python examples/calibrate_digits.py [--steps N] [--out FOLDER]`.

A scanned digit has three views: its left half, its right half, and the sums of its rows and columns. One model is
trained with a calibrator and one without, then both meet digits with a fault in the left half. `calibrate.png` shows
the accuracies and what the calibrator found. A minute on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

# --8<-- [start:data]
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from concordant import ContextualCalibrator, repeat_targets, with_copies

pixels, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
pixels = pixels.float().view(-1, 8, 8) / 16
views = {
    "left": pixels[:, :, :4].flatten(1),
    "right": pixels[:, :, 4:].flatten(1),
    "sums": torch.cat([pixels.sum(1), pixels.sum(2)], 1),
}
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[:1200], order[1200:]
# --8<-- [end:data]


# --8<-- [start:model]
class Model(nn.Module):
    """One encoder per view, an optional calibrator, and a head on all features side by side."""

    def __init__(self, *, calibrated: bool) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(x.shape[1], 32) for name, x in views.items()})
        self.calibrate = (
            ContextualCalibrator(dict.fromkeys(views, 32), layouts="bd", classes=10) if calibrated else None
        )
        self.head = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10))

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the features of every view, each (B, 32)."""
        return {name: self.encoders[name](x) for name, x in inputs.items()}

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits (B, 10)."""
        return self.head(torch.cat(list(features.values()), 1))


# --8<-- [end:model]
# --8<-- [start:training]
def fit(model: Model, steps: int) -> Model:
    """Train on the same rows in the same order, with or without the calibrator."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = train[torch.randint(len(train), (64,), generator=draws)]
        features, targets = model.encode({name: x[rows] for name, x in views.items()}), labels[rows]
        loss = torch.zeros(())
        if model.calibrate is not None:
            both = with_copies(model.calibrate.gather(features), model.calibrate.perturbation)
            targets = repeat_targets(targets)
            out = model.calibrate(both.batch, perturbed=both.perturbed, labels=targets)
            features, loss = out.features, out.auxiliary_loss
        loss = loss + F.cross_entropy(model.classify(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


# --8<-- [end:training]
# --8<-- [start:faults]
def faults() -> dict[str, dict[str, Tensor]]:
    """Return the test digits as they are, and with three faults in the left half."""
    intact = {name: x[test] for name, x in views.items()}
    left, draws = intact["left"], torch.Generator().manual_seed(1)
    return {
        "intact": intact,
        "left half of another digit": {**intact, "left": left.roll(1, 0)},
        "noise on the left half": {**intact, "left": left + torch.randn(left.shape, generator=draws)},
        "left half blank": {**intact, "left": torch.zeros_like(left)},
    }


@torch.no_grad()
def evaluate(model: Model, inputs: dict[str, Tensor]) -> tuple[float, list[float]]:
    """Return the accuracy, and the mean reliability of every view."""
    features, reliability = model.encode(inputs), []
    if model.calibrate is not None:
        out = model.calibrate(features)
        features, reliability = out.features, out.reliability.mean(0).tolist()
    right = model.classify(features).argmax(1) == labels[test]
    return right.float().mean().item(), reliability


# --8<-- [end:faults]
def main() -> None:
    """Train both models, print the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of each training; default: 600")
    parser.add_argument("--out", type=Path, help="the folder for calibrate.png; default: no picture")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    plain = fit(Model(calibrated=False), arguments.steps)
    torch.manual_seed(0)
    calibrated = fit(Model(calibrated=True), arguments.steps)
    rows = []
    for fault, inputs in faults().items():
        before, (after, reliability) = evaluate(plain, inputs)[0], evaluate(calibrated, inputs)
        rows.append((fault, before, after, reliability))
        found = ", ".join(f"{name} {value:.2f}" for name, value in zip(views, reliability, strict=True))
        print(f"{fault:27} right without {before:.0%}, with {after:.0%}; reliability: {found}")
    if arguments.out:
        draw(rows, arguments.out / "calibrate.png")


def draw(rows: list[tuple[str, float, float, list[float]]], path: Path) -> None:
    """Draw the accuracies and reliabilities of every fault as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    accuracy, reliability = figure.subplots(1, 2, sharey=True)
    for place, (_, before, after, found) in enumerate(rows):
        accuracy.barh(place - 0.2, before, 0.38, color="#9aa1ab", label="without" if place == 0 else None)
        accuracy.barh(place + 0.2, after, 0.38, color="#1b7f5f", label="with calibrator" if place == 0 else None)
        for view, (value, colour) in enumerate(zip(found, ("#c9552b", "#3b6ea8", "#8fb3d9"), strict=True)):
            label = list(views)[view] if place == 0 else None
            reliability.barh(place + 0.27 * (view - 1), value, 0.25, color=colour, label=label)
    accuracy.set_yticks(range(len(rows)), [row[0] for row in rows])
    accuracy.invert_yaxis()
    for axes, title in ((accuracy, "accuracy"), (reliability, "mean reliability")):
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
