"""A calibrator for a trained audio-visual ResNet: `python examples/attach_audio_visual.py [--steps N] [--out FOLDER]`.

The model has the structure of published code: a ResNet for the spectrogram, another for the frames, which are folded
into the batch and pooled afterwards, and a fusion module. It is trained on synthetic clips and saved. Then a calibrator
is fitted to the maps of both networks; the weights of the trained model do not change. `plugin.png` shows what it
gains on clips with a fault. Half a minute on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import fit_plugin
from concordant.attach import without_calibrator

CLASSES, CLIPS, FRAMES = 4, 48, 3


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of half the size."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


# --8<-- [start:model]
class AudioVisual(nn.Module):
    """Encoders called inside forward, and a head on the concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.audio_net = nn.Sequential(Block(1, 8), Block(8, 16))
        self.visual_net = nn.Sequential(Block(3, 8), Block(8, 16))
        self.fusion_module = nn.Linear(32, CLASSES)

    def forward(self, spectrogram: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pooled features of both, and logits (B, C).

        Args:
            spectrogram: (B, 1, H, W).
            frames: (B, 3, T, H, W).
        """
        a = self.audio_net(spectrogram)
        batch, _, time, _, _ = frames.shape
        v = self.visual_net(frames.transpose(1, 2).flatten(0, 1))  # (B T, C, H, W)
        v = v.unflatten(0, (batch, time)).transpose(1, 2)
        a, v = F.adaptive_avg_pool2d(a, 1).flatten(1), F.adaptive_avg_pool3d(v, 1).flatten(1)
        return a, v, self.fusion_module(torch.cat([a, v], 1))


# --8<-- [end:model]
def clips(count: int, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return spectrograms and films of the same class: a loud frequency band and a bright stripe."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    sound = 0.7 * torch.randn(count, 1, 16, 16, generator=draws)
    film = 0.7 * torch.randn(count, 3, FRAMES, 16, 16, generator=draws)
    for row, label in enumerate(labels.tolist()):
        sound[row, :, 4 * label : 4 * label + 4] += 1
        film[row, label % 3, ..., 4 * label : 4 * label + 4] += 1
    return (sound, film), labels


# --8<-- [start:loss]
def loss_of(output: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
    """Return the cross-entropy of the third output of the model."""
    return F.cross_entropy(output[2], labels)


# --8<-- [end:loss]
def trained(loader: list[tuple[tuple[Tensor, Tensor], Tensor]]) -> AudioVisual:
    """Return a trained model: yours, in practice."""
    torch.manual_seed(0)
    model = AudioVisual()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss_of(model(*inputs), labels).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: tuple[Tensor, Tensor], labels: Tensor) -> float:
    """Return the share of right answers."""
    return (model(*inputs)[2].argmax(1) == labels).float().mean().item()


def main() -> None:
    """Train the model, fit the plug-in, spoil one modality after the other, and load the old checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="of each fit of the calibrator; default: 150")
    parser.add_argument("--out", type=Path, help="the folder for plugin.png; default: no picture")
    arguments = parser.parse_args()
    loader = [clips(CLIPS, seed) for seed in range(12)]
    model = trained(loader)
    checkpoint = {key: value.clone() for key, value in model.state_dict().items()}

    # --8<-- [start:faults]
    (sound, film), labels = clips(200, 1000)
    noise = torch.Generator().manual_seed(0)
    tests = {
        "clean": (sound, film),
        "sound of noise": (3 * torch.randn(sound.shape, generator=noise), film),
        "silence": (0 * sound, film),
        "film of noise": (sound, 3 * torch.randn(film.shape, generator=noise)),
        "darkness": (sound, 0 * film),
    }
    before = {name: accuracy(model, inputs, labels) for name, inputs in tests.items()}
    # --8<-- [end:faults]
    # --8<-- [start:fit]
    attached = fit_plugin(
        model,
        loader,
        {"audio": "audio_net", "visual": "visual_net"},
        layout={"audio": "bchw", "visual": "(b t)chw"},
        loss=loss_of,
        validation=[clips(50, seed) for seed in range(2000, 2006)],
        growth=0.5,  # a clip is harmed if its loss grows by more
        steps=arguments.steps,
    )
    print(attached.guarantee)
    # --8<-- [end:fit]
    # --8<-- [start:compare]
    after = {}
    for name, inputs in tests.items():
        after[name] = accuracy(attached, inputs, labels)
        audio, visual = attached.calibration.reliability.mean(0).tolist()
        print(f"{name}: accuracy {before[name]:.2f}, with the plug-in {after[name]:.2f}; ", end="")
        print(f"reliability of audio {audio:.2f}, of visual {visual:.2f}")
    # --8<-- [end:compare]
    # --8<-- [start:checkpoint]
    saved = without_calibrator(attached.state_dict())
    print(f"the trained weights are untouched: {all(torch.equal(saved[key], checkpoint[key]) for key in checkpoint)}")
    print(f"the old checkpoint loads: {attached.load_state_dict(checkpoint)}")
    # --8<-- [end:checkpoint]
    if arguments.out:
        draw(before, after, arguments.out / "plugin.png")


def draw(before: dict[str, float], after: dict[str, float], path: Path) -> None:
    """Draw the accuracy under every fault, as it was and with the plug-in."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    places = range(len(before))
    axes.barh([place - 0.2 for place in places], before.values(), 0.38, color="#9aa1ab", label="the model as it was")
    axes.barh([place + 0.2 for place in places], after.values(), 0.38, color="#1b7f5f", label="with the plug-in")
    axes.set_yticks(places, before)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_title("accuracy", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
