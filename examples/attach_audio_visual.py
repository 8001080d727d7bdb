"""A calibrator in a hand-written audio-visual ResNet: `python examples/attach_audio_visual.py`.

The model has the structure of published code: a ResNet for the spectrogram, another for the frames, which are folded
into the batch and pooled afterwards, and a fusion module. It is trained on synthetic clips and saved. Then a calibrator
is fitted to the maps of both networks; the weights of the trained model do not change.
"""

from __future__ import annotations

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


def loss_of(output: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
    """Return the cross-entropy of the third output of the model."""
    return F.cross_entropy(output[2], labels)


def main() -> None:
    """Train the model, fit the plug-in, replace the sound by noise, and load the old checkpoint."""
    torch.manual_seed(0)
    model = AudioVisual()
    loader = [clips(CLIPS, seed) for seed in range(12)]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss_of(model(*inputs), labels).backward()
            optimizer.step()
    checkpoint = {key: value.clone() for key, value in model.eval().state_dict().items()}

    (sound, film), labels = clips(200, 1000)
    tests = {"clean": (sound, film), "sound of noise": (3 * torch.randn(sound.shape), film)}
    with torch.no_grad():
        before = {name: float((model(*batch)[2].argmax(1) == labels).float().mean()) for name, batch in tests.items()}
    taps = {"audio": "audio_net", "visual": "visual_net"}
    layouts = {"audio": "bchw", "visual": "(b t)chw"}
    attached = fit_plugin(model, loader, taps, layout=layouts, loss=loss_of, epochs=8)
    with torch.no_grad():
        for name, batch in tests.items():
            after = (attached(*batch)[2].argmax(1) == labels).float().mean()
            audio, visual = attached.calibration.reliability.mean(0).tolist()
            print(f"{name}: accuracy {before[name]:.2f}, with the plug-in {after:.2f}; ", end="")
            print(f"reliability of audio {audio:.2f}, of visual {visual:.2f}")
    saved = without_calibrator(attached.state_dict())
    print(f"the trained weights are untouched: {all(torch.equal(saved[key], checkpoint[key]) for key in checkpoint)}")
    print(f"the old checkpoint loads: {attached.load_state_dict(checkpoint)}")


if __name__ == "__main__":
    main()
