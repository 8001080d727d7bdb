"""From raw text to a calibrated prediction: `python examples/attach_transcripts.py [--data FOLDER] [--folds N]`.

A sentiment model joins a pretrained sentence embedding, which stays frozen, with features of voice and face, on the
spoken opinions of CMU-MOSI. It is trained as usual, and then stays as it is: `fit_plugin` attaches a calibrator behind
its three encoders. Printed are the accuracy on the test videos with a fault in one modality, without and with the
calibrator, and one prediction from its raw text.

The embedding is WordLlama's, a vector per token, averaged over a sentence; the weights are part of its package (`pip
install wordllama`, 19 MB). Half a minute on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from concordant import DataError, Perturbation, fit_plugin
from concordant.benchmarks.catalogue import prepare
from concordant.benchmarks.sentiment import SIZES, UTTERANCES
from concordant.data.archives import find_data_folder
from concordant.data.split import AnySplit

Inputs = dict[str, Tensor]
SENTIMENTS = ("negative", "positive")


class Sentences:
    """The pretrained tokenizer and embedding of a package that ships both."""

    def __init__(self, package: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self.weights = load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].float()
        self.tokenizer.enable_padding(pad_id=0)

    def tokens(self, sentences: list[str]) -> Tensor:
        """Return the tokens of sentences, (B, T), padded with 0."""
        found = self.tokenizer.encode_batch([one.lower() for one in sentences], add_special_tokens=False)
        return torch.tensor([one.ids or [0] for one in found])

    def encoder(self, width: int) -> nn.Sequential:
        """Return an encoder of tokens: the frozen embedding, averaged, and a linear layer."""
        embedding = nn.EmbeddingBag.from_pretrained(self.weights, freeze=True, mode="mean", padding_idx=0)
        return nn.Sequential(embedding, *encoder(self.weights.shape[1], width))


def encoder(size: int, width: int) -> nn.Sequential:
    """Return an encoder of vectors."""
    return nn.Sequential(nn.BatchNorm1d(size), nn.Dropout(0.5), nn.Linear(size, width))


class Sentiment(nn.Module):
    """One encoder per modality, and a head on their features side by side."""

    def __init__(self, sentences: Sentences, width: int = 32) -> None:
        super().__init__()
        self.text = sentences.encoder(width)
        self.audio, self.video = encoder(SIZES["audio"], width), encoder(SIZES["video"], width)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3 * width, len(SENTIMENTS)))

    def forward(self, tokens: Tensor, audio: Tensor, video: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        logits: Tensor = self.head(torch.cat([self.text(tokens), self.audio(audio), self.video(video)], 1))
        return logits


class Batches:
    """Batches of 64 (inputs, labels), in another order at every pass where a seed is given."""

    def __init__(self, inputs: Inputs, labels: Tensor, seed: int | None = None) -> None:
        self.inputs, self.labels = inputs, labels
        self.draws = None if seed is None else torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        count = len(self.labels)
        order = torch.arange(count) if self.draws is None else torch.randperm(count, generator=self.draws)
        for rows in torch.split(order, 64):
            yield {name: x[rows] for name, x in self.inputs.items()}, self.labels[rows]


def trained(sentences: Sentences, batches: Batches, seed: int) -> Sentiment:
    """Return a trained model: yours, in practice."""
    torch.manual_seed(seed)
    model = Sentiment(sentences)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(12):
        for inputs, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(**inputs), labels).backward()
            optimizer.step()
    return model.eval()


def faults(inputs: Inputs, sentences: Sentences, seed: int) -> dict[str, Inputs]:
    """Return the test inputs as they are and with one modality spoilt."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(inputs["audio"]), generator=draws)
    noise = {name: 3 * torch.randn(inputs[name].shape, generator=draws) for name in ("audio", "video")}
    return {
        "clean": inputs,
        "no words": {**inputs, "tokens": sentences.tokens([""] * len(rows))},
        "words of another": {**inputs, "tokens": inputs["tokens"][rows]},
        "no voice": {**inputs, "audio": 0 * inputs["audio"] - 3},
        "noise as voice": {**inputs, "audio": noise["audio"]},
        "noise as face": {**inputs, "video": noise["video"]},
    }


def main() -> int:
    """Train, attach and score, fold by fold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"the folder that holds {UTTERANCES}; default: as for `concordant run`")
    parser.add_argument("--folds", type=int, default=2, help="of five by video, each a test set; default: 2")
    arguments = parser.parse_args()
    found = find_spec("wordllama")
    if found is None or found.origin is None:
        print("skipped: this example needs a pretrained embedding: pip install wordllama")
        return 0
    sentences = Sentences(Path(found.origin).parent)
    try:
        folder = find_data_folder(arguments.data, files=[UTTERANCES])
    except DataError as error:
        print(f"skipped: {error}")
        return 0
    with np.load(folder / UTTERANCES, allow_pickle=False) as archive:
        if "transcript_test" not in archive:
            print(f"skipped: {folder / UTTERANCES} has no transcripts (transcript_test)")
            return 0
        words = dict(zip(archive["id_test"].tolist(), archive["transcript_test"].tolist(), strict=True))

    def inputs_of(split: AnySplit) -> Inputs:
        """Return tokens of the raw transcripts, and standardised features of voice and face."""
        tensors = {name: torch.from_numpy(split.inputs[name]) for name in ("audio", "video")}
        return {"tokens": sentences.tokens([words[one] for one in split.ids]), **tensors}

    before, after, rows = Counter[str](), Counter[str](), 0
    for fold in range(arguments.folds):
        task = prepare("cmu-mosi-utterance", data=str(folder), seed=fold, protocol="test-folds")
        train = Batches(inputs_of(task.train), torch.from_numpy(task.train.labels), seed=fold)
        valid = Batches(inputs_of(task.valid), torch.from_numpy(task.valid.labels))
        model = trained(sentences, train, fold)
        inputs, labels = inputs_of(task.test), torch.from_numpy(task.test.labels)
        tests = faults(inputs, sentences, fold)
        with torch.no_grad():
            for name, spoilt in tests.items():
                before[name] += int((model(**spoilt).argmax(1) == labels).sum())
        taps = {"text": "text", "audio": "audio", "video": "video"}
        attached = fit_plugin(
            model,
            train,
            taps,
            layout="bd",
            validation=valid,
            harm=0.08,  # what few validation rows can show
            perturbation=Perturbation(variation=0.25),  # speakers are new; without it three values are compared
            seed=fold,
        )
        with torch.no_grad():
            for name, spoilt in tests.items():
                after[name] += int((attached(**spoilt).argmax(1) == labels).sum())
        rows += len(labels)
    print(attached.guarantee)
    print(f"{rows} utterances of test videos; accuracy without and with the calibrator")
    for name in before:
        print(f"{name}: {before[name] / rows:.3f}, {after[name] / rows:.3f}")
    one = {name: x[:1] for name, x in tests["noise as voice"].items()}
    with torch.no_grad():
        chances = attached(**one).softmax(1)[0]
    trust = zip(taps, attached.calibration.reliability[0].tolist(), strict=True)
    answer = SENTIMENTS[int(chances.argmax())]
    print(f'"{words[task.test.ids[0]]}", with noise as voice: {answer} ({chances.max():.2f}); ', end="")
    print("reliability of " + ", ".join(f"{name} {value:.2f}" for name, value in trust))
    return 0


if __name__ == "__main__":
    sys.exit(main())
