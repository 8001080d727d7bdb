"""Train a model with a calibrator as a layer in two processes, by PyTorch's DistributedDataParallel.

pip install concordant scikit-learn
python examples/ddp_layer.py

Each process sees its own half of every batch, and DistributedDataParallel averages the gradients; `concordant run
--devices N` computes the calibrator's losses and statistics over the whole batch instead.
"""

import socket
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from concordant import Calibration, ContextualCalibrator

PROCESSES = 2


class Digits(nn.Module):
    """Encode both halves of a picture, calibrate what both say, and classify it."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.lower = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.calibrate = ContextualCalibrator({"upper": 32, "lower": 32}, layouts="bd", seed=0)
        self.head = nn.Linear(64, 10)

    def forward(self, upper: Tensor, lower: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Calibration]:
        """Return logits, and the calibration with its loss: what forward returns is what the gradients come from."""
        found = self.calibrate({"upper": self.upper(upper), "lower": self.lower(lower)}, labels=labels)
        return self.head(torch.cat(list(found.features.values()), 1)), found


def halves() -> TensorDataset:
    """Return upper and lower halves of the digits, and their classes."""
    pictures, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    upper, lower = torch.tensor(pictures / 16, dtype=torch.float32)[order].split(32, 1)
    return TensorDataset(upper, lower, torch.tensor(digits)[order])


def train(rank: int, address: str, checkpoint: str) -> None:
    """Train in one of the processes; the first one writes the checkpoint."""
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # each process draws its own perturbations
    data = torch.utils.data.Subset(halves(), range(1400))
    sampler = DistributedSampler(data)
    model = DistributedDataParallel(Digits())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        for upper, lower, digits in DataLoader(data, 64 // PROCESSES, sampler=sampler):
            logits, found = model(upper, lower, digits)
            loss = F.cross_entropy(logits, digits) + found.auxiliary_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if rank == 0:
        torch.save(model.module.state_dict(), checkpoint)
    dist.destroy_process_group()


def main() -> None:
    """Train, load the checkpoint, and swap a modality."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        address, checkpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}", str(Path(folder) / "digits.pt")
        free.close()
        # Forked processes need not import everything again; with CUDA processes are spawned.
        method = "fork" if sys.platform == "linux" else "spawn"
        torch.multiprocessing.start_processes(train, (address, checkpoint), nprocs=PROCESSES, start_method=method)
        model = Digits()
        model.load_state_dict(torch.load(checkpoint))
    upper, lower, digits = halves()[1400:]
    with torch.no_grad():
        logits, _ = model.eval()(upper, lower)
        print(f"accuracy {(logits.argmax(1) == digits).float().mean():.3f}")
        for name, given in (("as it is", upper), ("of another digit", upper.roll(1, 0))):
            reliability = model(given, lower)[1].reliability.mean(0).tolist()
            print(f"upper half {name}: reliability of upper {reliability[0]:.2f}, of lower {reliability[1]:.2f}")


if __name__ == "__main__":
    main()
