"""Fusions by name: backbones that join the features of all modalities, each with its own head.

>>> import torch
>>> from concordant.modalities import LAYOUTS
>>> specs = {"text": FeatureSpec(300, LAYOUTS["btd"]), "audio": FeatureSpec(74, LAYOUTS["bd"])}
>>> entry = FUSIONS["mbt"]
>>> model = entry.build(specs, classes=3, **entry.small).eval()  # without entry.small, of the paper's size
>>> features = {"text": torch.randn(2, 50, 300), "audio": torch.randn(2, 74)}
>>> masks, present = {"text": torch.arange(50).expand(2, -1) < 20}, {"audio": torch.tensor([True, False])}
>>> model(features, masks, present).shape
torch.Size([2, 3])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from concordant.fusion.base import FeatureSpec, Fusion
from concordant.fusion.convolutional.attention import MapAttention
from concordant.fusion.convolutional.centralnet import CentralNet
from concordant.fusion.convolutional.concat import ConcatMaps
from concordant.fusion.convolutional.film import FilmStreams
from concordant.fusion.convolutional.gated import GatedStreams
from concordant.fusion.convolutional.mmtm import TransferFusion
from concordant.fusion.convolutional.sum import SumLogits
from concordant.fusion.sequence.bottleneck import BottleneckFusion
from concordant.fusion.sequence.crossmodal import CrossmodalTransformer
from concordant.fusion.sequence.late import LateDense
from concordant.fusion.sequence.low_rank import LowRankFusion
from concordant.fusion.sequence.memory import MemoryFusion
from concordant.fusion.sequence.misa import MisaFusion
from concordant.fusion.sequence.perceiver import PerceiverFusion
from concordant.fusion.sequence.recurrent import EarlyLSTM, LateLSTM
from concordant.fusion.sequence.tensor import TensorFusion
from concordant.fusion.sequence.transformer import TransformerFusion
from concordant.registry import Registry

__all__ = ["FUSIONS", "FeatureSpec", "Fusion", "FusionEntry"]


@dataclass(frozen=True)
class FusionEntry:
    """A fusion that an experiment can choose.

    Args:
        build: its class; takes the feature specs and keyword arguments, whose defaults are the paper's.
        setting: what it was made for: "vector", "sequence" or "convolutional".
        summary: one line.
        paper: authors, venue and year of what it implements.
        small: keyword arguments with which it trains on two cores in minutes; `dropout` is not among them,
            since the recipe of an experiment has it.
        most: the largest number of modalities, or None.
        points: where a calibrator can stand: "features", or "maps" and "pooled"; the first unless another is
            named. With two, `build` takes the choice as `at`.
        late: each modality is a vector of its own until the end, so that a decision can be made for each.
        head: all modalities come together in one vector before one head.
        stages: with ResNet-18 streams, how many of the four stages come before the modalities first meet.
    """

    build: type[Fusion]
    setting: str
    summary: str
    paper: str
    small: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = None
    points: tuple[str, ...] = ("features",)
    late: bool = False
    head: bool = True
    stages: int = 4


FUSIONS: Registry[FusionEntry] = Registry("fusion")
FUSIONS.add(
    "lf-dnn",
    FusionEntry(
        LateDense,
        "vector",
        "pooled features side by side, one hidden layer (late fusion)",
        "the LF-DNN baseline of MMSA (Yu et al., ACL 2020)",
        small={"hidden": 64},
        late=True,
    ),
)
FUSIONS.add(
    "ef-lstm",
    FusionEntry(
        EarlyLSTM,
        "sequence",
        "one LSTM over the joined steps of all modalities (early fusion)",
        "the EF-LSTM baseline of MMSA (Yu et al., ACL 2020)",
        small={"hidden": 64, "layers": 1},
    ),
)
FUSIONS.add(
    "lf-lstm",
    FusionEntry(
        LateLSTM,
        "sequence",
        "an LSTM a modality, the last states side by side (late fusion)",
        "the LF-LSTM baseline of MulT (Tsai et al., ACL 2019)",
        small={"hidden": 64},
        late=True,
    ),
)
FUSIONS.add(
    "tfn",
    FusionEntry(
        TensorFusion,
        "vector",
        "outer product of all modalities' pooled vectors",
        "Zadeh et al., EMNLP 2017",
        small={"largest": 5_000, "hidden": 64},
        most=17,  # 2^17 is the last power within the default bound
    ),
)
FUSIONS.add(
    "lmf",
    FusionEntry(
        LowRankFusion,
        "vector",
        "tensor fusion with low-rank factors, one a modality",
        "Liu et al., ACL 2018",
        small={"size": 32},
        head=False,
    ),
)
FUSIONS.add(
    "mfn",
    FusionEntry(
        MemoryFusion,
        "sequence",
        "an LSTM a modality, attention over their cells, a gated memory",
        "Zadeh et al., AAAI 2018",
        small={"hidden": 32, "memory": 32, "attention": 32, "shares": 10},
    ),
)
FUSIONS.add(
    "mult",
    FusionEntry(
        CrossmodalTransformer,
        "sequence",
        "crossmodal transformers for every ordered pair of modalities",
        "Tsai et al., ACL 2019",
        small={"width": 32, "heads": 4, "layers": 1, "memory_layers": 1, "kernel": 1},
    ),
)
FUSIONS.add(
    "misa",
    FusionEntry(
        MisaFusion,
        "vector",
        "shared and private vectors with their losses, joined by a transformer",
        "Hazarika et al., ACM MM 2020",
        small={"width": 64},
    ),
)
FUSIONS.add(
    "mbt",
    FusionEntry(
        BottleneckFusion,
        "sequence",
        "a transformer a modality, joined through a few bottleneck tokens",
        "Nagrani et al., NeurIPS 2021",
        small={"width": 64, "layers": 2, "heads": 4, "alone": 1},
    ),
)
FUSIONS.add(
    "perceiver",
    FusionEntry(
        PerceiverFusion,
        "sequence",
        "latents that look at the steps of all modalities, in rounds",
        "Jaegle et al., ICML 2021",
        small={"width": 64, "latents": 16, "rounds": 2, "blocks": 1, "heads": 4},
    ),
)
FUSIONS.add(
    "transformer",
    FusionEntry(
        TransformerFusion,
        "sequence",
        "one transformer over the steps of all modalities, with masks",
        "Vaswani et al., NeurIPS 2017",
        small={"width": 64, "layers": 2, "heads": 4},
    ),
)
FUSIONS.add(
    "concat",
    FusionEntry(
        ConcatMaps,
        "convolutional",
        "feature maps averaged onto a grid, side by side, one linear layer",
        "the joint baseline of OGM-GE (Peng et al., CVPR 2022)",
        small={"grid": 2},
        points=("maps", "pooled"),
        late=True,
    ),
)
FUSIONS.add(
    "sum",
    FusionEntry(
        SumLogits,
        "convolutional",
        "pooled maps, a linear layer a stream, logits added up",
        "the summation baseline of OGM-GE (Peng et al., CVPR 2022)",
        small={"grid": 2},
        points=("maps", "pooled"),
        late=True,
        head=False,
    ),
)
FUSIONS.add(
    "film",
    FusionEntry(
        FilmStreams,
        "convolutional",
        "pooled maps, one stream scaled and shifted by the others",
        "Perez et al., AAAI 2018",
        small={"grid": 2},
        points=("maps", "pooled"),
    ),
)
FUSIONS.add(
    "gated",
    FusionEntry(
        GatedStreams,
        "convolutional",
        "pooled maps, one stream gates the others",
        "Kiela et al., AAAI 2018",
        small={"grid": 2, "width": 64},
        points=("maps", "pooled"),
    ),
)
FUSIONS.add(
    "mmtm",
    FusionEntry(
        TransferFusion,
        "convolutional",
        "streams gate each other's channels between their stages",
        "Joze et al., CVPR 2020",
        small={"widths": (64, 64), "blocks": "small"},
        points=("maps",),
        head=False,
        stages=2,
    ),
)
FUSIONS.add(
    "centralnet",
    FusionEntry(
        CentralNet,
        "convolutional",
        "a central network fed by weighted sums of the streams' stages",
        "Vielzeuf et al., ECCV workshops 2018",
        small={"widths": (64, 64), "blocks": "small"},
        points=("maps",),
        stages=2,
    ),
)
FUSIONS.add(
    "attention",
    FusionEntry(
        MapAttention,
        "convolutional",
        "the places of each map attend to those of the others, then pooling",
        "crossmodal attention of Tsai et al., ACL 2019",
        small={"width": 64, "heads": 4, "grid": 4},
        points=("maps",),
    ),
)
