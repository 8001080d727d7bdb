"""Train a model with a calibrator as a layer by skorch, as a scikit-learn estimator: digits, cut into two halves.

pip install concordant skorch scikit-learn
python examples/skorch_layer.py
"""

from typing import Any

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from concordant import ContextualCalibrator


class Digits(nn.Module):
    """Encode both halves of a picture, calibrate what both say, and classify it."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.lower = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.calibrate = ContextualCalibrator({"upper": 32, "lower": 32}, layouts="bd", seed=0)
        self.head = nn.Linear(64, 10)

    def forward(self, upper: Tensor, lower: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits."""
        self.calibration = self.calibrate({"upper": self.upper(upper), "lower": self.lower(lower)}, labels=labels)
        return self.head(torch.cat(list(self.calibration.features.values()), 1))


class CalibratedNet(NeuralNetClassifier):
    """Passes the classes to the calibrator in training, and adds its loss."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:  # noqa: ANN401
        """Do one step."""
        return super().train_step_single(batch, labels=batch[1], **fit_params)

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:  # noqa: ANN401, N803
        """Return the sum of both losses in training."""
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss + self.module_.calibrate.auxiliary_loss() if training else loss


def main() -> None:
    """Train, and swap a modality."""
    torch.manual_seed(0)
    pictures, digits = load_digits(return_X_y=True)
    pictures = pictures[order := torch.randperm(len(digits)).numpy()].astype("float32") / 16
    halves, digits = {"upper": pictures[:, :32], "lower": pictures[:, 32:]}, digits[order]
    train, test = ({name: x[rows] for name, x in halves.items()} for rows in (slice(1400), slice(1400, None)))
    options = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.Adam, "lr": 1e-2, "batch_size": 64}
    net = CalibratedNet(Digits, max_epochs=5, train_split=None, verbose=0, **options)
    net.fit(train, digits[:1400])
    print(f"accuracy {net.score(test, digits[1400:]):.3f}")
    for name, given in (("as it is", test["upper"]), ("of another digit", test["upper"][::-1].copy())):
        net.forward({**test, "upper": given})
        reliability = net.module_.calibration.reliability.mean(0).tolist()
        print(f"upper half {name}: reliability of upper {reliability[0]:.2f}, of lower {reliability[1]:.2f}")


if __name__ == "__main__":
    main()
