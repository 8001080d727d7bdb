"""Train a calibrator by Lightning's Trainer, attached to a model and as a layer of one: digits, cut into two halves.

pip install concordant lightning scikit-learn
python examples/lightning_trainer.py
"""

import logging
import tempfile
import warnings

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from concordant import ContextualCalibrator, attach


class Digits(lightning.LightningModule):
    """Encode both halves of a picture, and classify what both say."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.lower = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Return logits."""
        return self.head(torch.cat([self.upper(upper), self.lower(lower)], 1))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the task's loss and the calibrator's; `self` is the attached model, or the one with the layer."""
        upper, lower, digit = batch
        self.labels = digit  # which instances the calibrator may compare
        loss = F.cross_entropy(self(upper, lower), digit)
        return loss + self.auxiliary_loss()

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Log the accuracy."""
        upper, lower, digit = batch
        self.log("accuracy", (self(upper, lower).argmax(1) == digit).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimiser of all parameters, the calibrator's among them."""
        return torch.optim.Adam(self.parameters(), lr=6e-3)


class CalibratedDigits(Digits):
    """The model with the calibrator as a layer of its own."""

    labels: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.calibrate = ContextualCalibrator({"upper": 32, "lower": 32}, layouts="bd", seed=0)

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Return logits."""
        features = {"upper": self.upper(upper), "lower": self.lower(lower)}
        self.calibration = self.calibrate(features, labels=self.labels if self.training else None)
        return self.head(torch.cat(list(self.calibration.features.values()), 1))

    def auxiliary_loss(self) -> Tensor:
        """Return the calibrator's loss."""
        return self.calibrate.auxiliary_loss()


def main() -> None:
    """Train both, and swap a modality."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.seed_everything(0, verbose=False)
    pictures, digits = load_digits(return_X_y=True)
    upper, lower = torch.tensor(pictures / 16, dtype=torch.float32).split(32, 1)
    data = TensorDataset(upper, lower, torch.tensor(digits))
    train, test = torch.utils.data.random_split(data, [1400, len(data) - 1400])
    attached = attach(Digits(), {"upper": "upper", "lower": "lower"}, example=(upper[:4], lower[:4]), seed=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    upper, lower, _ = test[:]
    layered = CalibratedDigits()
    for title, model in (("attached", attached), ("a layer", layered)):
        trainer = lightning.Trainer(max_epochs=8, accelerator="cpu", enable_checkpointing=False, **quiet)
        trainer.fit(model, DataLoader(train, 64, shuffle=True), DataLoader(test, 512))
        print(f"{title}: accuracy {float(trainer.callback_metrics['accuracy']):.3f}")
        model.eval()
        with torch.no_grad():
            for name, given in (("as it is", upper), ("of another digit", upper.roll(1, 0))):
                model(given, lower)
                reliability = model.calibration.reliability.mean(0).tolist()
                print(f"upper half {name}: reliability of upper {reliability[0]:.2f}, of lower {reliability[1]:.2f}")
    print(f"detached, it is the model that came in: {type(attached.detach()) is Digits}")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        trainer.save_checkpoint(f"{folder}/digits.ckpt")
        loaded = CalibratedDigits.load_from_checkpoint(f"{folder}/digits.ckpt").eval()
        print(f"the checkpoint holds the layer: {torch.equal(loaded(upper, lower), layered(upper, lower))}")


if __name__ == "__main__":
    main()
