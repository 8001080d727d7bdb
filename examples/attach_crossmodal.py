"""A calibrator in a crossmodal transformer in time-first layout: `python examples/attach_crossmodal.py`.

As in the published MulT, each modality goes through a convolution over time, (B, D, T), is transposed to (T, B, D), and
attends to the other. The convolutions are tapped. Sequences have different lengths, so a function of the model's inputs
gives the calibrator the masks of valid steps. Model and calibrator are trained together; the training loop adds the
auxiliary loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import attach

CLASSES, BATCH, STEPS = 3, 64, 12


class Crossmodal(nn.Module):
    """Text attends to audio, audio to text."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_text, self.proj_audio = nn.Conv1d(20, 16, 1, bias=False), nn.Conv1d(6, 16, 3, padding=1, bias=False)
        self.text_with_audio, self.audio_with_text = nn.MultiheadAttention(16, 2), nn.MultiheadAttention(16, 2)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, CLASSES))

    def forward(self, text: Tensor, audio: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) of text (B, T, 20) and audio (B, T, 6)."""
        text = F.dropout(text.transpose(1, 2), 0.1, self.training)
        text = self.proj_text(text).permute(2, 0, 1)  # (T, B, D)
        audio = self.proj_audio(audio.transpose(1, 2)).permute(2, 0, 1)
        padded = ~valid_steps(text.transpose(0, 1), audio, lengths)
        texts = self.text_with_audio(text, audio, audio, key_padding_mask=padded)[0] + text
        audios = self.audio_with_text(audio, text, text, key_padding_mask=padded)[0] + audio
        weight = (~padded).T[..., None] / lengths[None, :, None]  # (T, B, 1)
        return self.head(torch.cat([(texts * weight).sum(0), (audios * weight).sum(0)], 1))


def valid_steps(text: Tensor, audio: Tensor, lengths: Tensor) -> Tensor:
    """Return bool (B, T), True at valid steps."""
    return torch.arange(text.shape[1]) < lengths[:, None]


def utterances(seed: int, count: int = BATCH) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return text and audio whose means depend on the same class, their lengths, and the class."""
    draws = torch.Generator().manual_seed(seed)
    means = [torch.randn(CLASSES, size, generator=torch.Generator().manual_seed(size)) for size in (20, 6)]
    labels = torch.randint(CLASSES, (count,), generator=draws)
    lengths = torch.randint(4, STEPS + 1, (count,), generator=draws)
    text, audio = (
        mean[labels][:, None] + 1.5 * torch.randn(count, STEPS, mean.shape[1], generator=draws) for mean in means
    )
    valid = valid_steps(text, audio, lengths)[..., None]
    return (text * valid, audio * valid, lengths), labels


def main() -> None:
    """Train both together, then add noise to the text."""
    torch.manual_seed(0)
    model = Crossmodal()
    inputs, _ = utterances(0)
    attached = attach(
        model,
        {"text": "proj_text", "audio": "proj_audio"},
        layout="bdt",
        masks={"text": valid_steps, "audio": valid_steps},
        example=inputs,
        seed=0,
    )
    print(f"untrained, the output is the model's own: {torch.equal(attached.eval()(*inputs), model(*inputs))}")
    optimizer = torch.optim.AdamW(attached.parameters(), lr=3e-3)
    attached.train()
    for step in range(150):
        inputs, labels = utterances(step)
        attached.labels = labels  # better positives for the contrastive loss; optional
        loss = F.cross_entropy(attached(*inputs), labels) + attached.auxiliary_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    attached.eval()
    (text, audio, lengths), labels = utterances(1000, 256)
    noise = text + 3 * torch.randn(text.shape) * valid_steps(text, audio, lengths)[..., None]
    with torch.no_grad():
        for name, given in (("clean", text), ("noise on the text", noise)):
            right = (attached(given, audio, lengths).argmax(1) == labels).float().mean()
            text_score, audio_score = attached.calibration.reliability.mean(0).tolist()
            print(f"{name}: accuracy {right:.2f}, reliability of text {text_score:.2f}, of audio {audio_score:.2f}")


if __name__ == "__main__":
    main()
