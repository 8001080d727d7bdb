"""Train a calibrator by Hugging Face's Trainer, attached to a model and as a layer of one: digits, cut into two halves.

pip install concordant transformers accelerate scikit-learn
python examples/huggingface_trainer.py
"""

import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from concordant import ContextualCalibrator, attach


class Digits(nn.Module):
    """Encode both halves of a picture, and classify what both say."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.lower = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, upper: Tensor, lower: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return logits, and the loss of given labels."""
        return self.classify([self.upper(upper), self.lower(lower)], labels)

    def classify(self, features: list[Tensor], labels: Tensor | None) -> dict[str, Tensor]:
        """Return logits, and the loss of given labels."""
        logits = self.head(torch.cat(features, 1))
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


class CalibratedDigits(Digits):
    """The model with the calibrator as a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.calibrate = ContextualCalibrator({"upper": 32, "lower": 32}, layouts="bd", seed=0)

    def forward(self, upper: Tensor, lower: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return logits, and the loss of given labels."""
        features = {"upper": self.upper(upper), "lower": self.lower(lower)}
        self.calibration = self.calibrate(features, labels=labels if self.training else None)
        return self.classify(list(self.calibration.features.values()), labels)

    def auxiliary_loss(self) -> Tensor:
        """Return the calibrator's loss."""
        return self.calibrate.auxiliary_loss()


class CalibratedTrainer(Trainer):
    """Adds the calibrator's loss to the model's."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs=False, **options: Any) -> Any:  # noqa: ANN001, ANN401
        """Return the sum of both losses in training."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        if model.training:
            loss = loss + self.accelerator.unwrap_model(model).auxiliary_loss()
        return (loss, outputs) if return_outputs else loss


def main() -> None:
    """Train both, and swap a modality."""
    torch.manual_seed(0)
    pictures, digits = load_digits(return_X_y=True)
    halves = torch.tensor(pictures / 16, dtype=torch.float32).split(32, 1)
    rows = [{"upper": u, "lower": v, "labels": int(y)} for u, v, y in zip(*halves, digits, strict=True)]
    order = torch.randperm(len(rows)).tolist()
    train, test = [rows[i] for i in order[:1400]], [rows[i] for i in order[1400:]]
    example = {name: torch.stack([row[name] for row in train[:4]]) for name in ("upper", "lower")}
    attached = attach(Digits(), {"upper": "upper", "lower": "lower"}, example=example, seed=0)
    upper, lower = (torch.stack([row[name] for row in test]) for name in ("upper", "lower"))
    for title, model in (("attached", attached), ("a layer", CalibratedDigits())):
        with tempfile.TemporaryDirectory() as folder:
            quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
            sizes = {"per_device_train_batch_size": 64, "per_device_eval_batch_size": 512, "num_train_epochs": 8}
            settings = TrainingArguments(
                folder, learning_rate=6e-3, label_names=["labels"], use_cpu=True, **sizes, **quiet
            )
            trainer = CalibratedTrainer(model, settings, train_dataset=train, eval_dataset=test)
            trainer.train()
            found = trainer.predict(test)
        print(f"{title}: accuracy {(found.predictions.argmax(1) == found.label_ids).mean():.3f}")
        model.eval()
        with torch.no_grad():
            for name, given in (("as it is", upper), ("of another digit", upper.roll(1, 0))):
                model(given, lower)
                reliability = model.calibration.reliability.mean(0).tolist()
                print(f"upper half {name}: reliability of upper {reliability[0]:.2f}, of lower {reliability[1]:.2f}")


if __name__ == "__main__":
    main()
