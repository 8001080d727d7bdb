"""A calibrator in a Hugging Face vision-text model, without editing the model: `python examples/attach_clip.py`.

A small CLIP is built from a configuration (nothing is downloaded, so its weights are random), and a linear head
classifies synthetic pairs of pictures and words. The projections of picture and text are tapped, so that head and
similarities get calibrated embeddings. Then the pictures are replaced by noise, and their reliability falls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from concordant import attach

CLASSES, WORDS, PAIRS = 4, 6, 64


def small_clip() -> CLIPModel:
    """Return a CLIP of two small transformers with random weights."""
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**size, "vocab_size": 50, "max_position_embeddings": WORDS, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**size, "image_size": 16, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))


class Classifier(nn.Module):
    """CLIP as a feature extractor, with a head on both embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.clip, self.head = small_clip(), nn.Linear(32, CLASSES)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> dict[str, Tensor]:
        """Return logits (B, C) and CLIP's own similarities (B, B)."""
        out = self.clip(input_ids=input_ids, pixel_values=pixel_values)
        return {
            "logits": self.head(torch.cat([out.text_embeds, out.image_embeds], 1)),
            "similarities": out.logits_per_image,
        }


def pairs(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return words and pictures that show the same class, and the class."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    words = 10 + 5 * labels[:, None] + torch.randint(5, (count, WORDS), generator=draws)
    words[:, 0], words[:, -1] = 0, 1
    shades = torch.linspace(-1, 1, CLASSES)[labels]
    pictures = shades[:, None, None, None] + 0.3 * torch.randn(count, 3, 16, 16, generator=draws)
    return {"input_ids": words, "pixel_values": pictures}, labels


def main() -> None:
    """Attach, compare, train, corrupt the pictures, detach."""
    torch.manual_seed(0)
    model = Classifier().eval()
    inputs, labels = pairs(PAIRS, 0)
    taps = {"text": "clip.text_projection", "image": "clip.visual_projection"}
    attached = attach(model, taps, layout="bd", example=inputs, seed=0)
    same = {key: torch.equal(value, attached(**inputs)[key]) for key, value in model(**inputs).items()}
    print(f"untrained, the output is CLIP's own: {all(same.values())}")

    optimizer = torch.optim.AdamW(attached.parameters(), lr=3e-3)
    attached.train()
    for step in range(120):
        batch, targets = pairs(PAIRS, step + 1)
        loss = F.cross_entropy(attached(**batch)["logits"], targets) + attached.auxiliary_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    attached.eval()

    test, labels = pairs(256, 1000)
    noisy = {**test, "pixel_values": 3 * torch.randn(test["pixel_values"].shape)}
    with torch.no_grad():
        for name, batch in (("clean", test), ("pictures of noise", noisy)):
            right = (attached(**batch)["logits"].argmax(1) == labels).float().mean()
            text, image = attached.calibration.reliability.mean(0).tolist()
            print(f"{name}: accuracy {right:.2f}, reliability of text {text:.2f}, of image {image:.2f}")
    print(f"detached, it is the model that came in: {attached.detach() is model}")


if __name__ == "__main__":
    main()
