"""find_taps on models of several kinds, and on those of transformers; the zoo has more."""

import pytest
import torch
from torch import nn

from concordant import UsageError, attach, find_taps, fit_plugin
from concordant.attach.containers import tensors_of

B = 4


class Towers(nn.Module):
    """Two towers that meet in a product of normalised features, as in CLIP; masks belong to the text."""

    def __init__(self):
        super().__init__()
        self.words, self.text, self.image = (
            nn.Embedding(9, 8),
            nn.Linear(8, 6),
            nn.Sequential(nn.Linear(5, 8), nn.ReLU()),
        )
        self.project = nn.Linear(8, 6)

    def forward(self, input_ids, pixels, attention_mask=None, labels=None):
        steps = self.text(self.words(input_ids))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        text = (steps * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        text, image = (
            nn.functional.normalize(text, dim=1),
            nn.functional.normalize(self.project(self.image(pixels)), dim=1),
        )
        return text @ image.T


class Written(nn.Module):
    """Features are written into a buffer of both, and read from it; one encoder is an attribute of a container."""

    def __init__(self):
        super().__init__()
        self.both = nn.ModuleDict({"one": nn.Linear(3, 4), "two": nn.Linear(5, 4)})
        self.head = nn.Linear(4, 2)

    def forward(self, batch):
        room = torch.zeros(len(batch["one"]), 2, 4)
        for place, (name, module) in enumerate(self.both.items()):
            room[:, place] = module(batch[name])
        return self.head(room.relu_().mean(1))


class Together(nn.Module):
    """One submodule encodes both modalities and returns both."""

    def __init__(self):
        super().__init__()
        self.encoders, self.head = nn.Module(), nn.Linear(8, 2)
        self.encoders.a, self.encoders.v = nn.Linear(3, 4), nn.Linear(5, 4)
        self.drop = nn.Dropout()

    def forward(self, a, v):
        return self.head(torch.cat([self.encoders.a(a), self.drop(self.encoders.v(v))], 1))


class Many(nn.Module):
    """Many modalities, each with many submodules that could be tapped."""

    def __init__(self, count):
        super().__init__()
        deep = lambda: nn.Sequential(*(nn.Linear(3, 3) for _ in range(8)))  # noqa: E731
        self.encoders, self.head = nn.ModuleList(deep() for _ in range(count)), nn.Linear(3 * count, 2)

    def forward(self, parts):
        return self.head(torch.cat([encoder(x) for encoder, x in zip(self.encoders, parts, strict=True)], 1))


class Biased(nn.Module):
    """The text joins the image as steps of one sequence, and is used once more behind that, as a bias."""

    def __init__(self):
        super().__init__()
        self.words, self.image, self.bias, self.head = (
            nn.Embedding(9, 4),
            nn.Linear(5, 4),
            nn.Embedding(9, 4),
            nn.Linear(4, 2),
        )

    def forward(self, text, image, bias=0):
        both = torch.cat([self.words(text), self.image(image)], 1)
        return self.head(both.mean(1) + self.bias(text).mean(1)) + bias


class Residual(nn.Module):
    """Attention between two sequences that are joined with what they were."""

    def __init__(self):
        super().__init__()
        self.norm, self.attention, self.head = (
            nn.LayerNorm(4),
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.Linear(4, 2),
        )

    def forward(self, audio, visual):
        return self.head((audio + self.attention(self.norm(audio), visual, visual)[0]).mean(1))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 4)

    def forward(self, x):
        steps = self.second(self.first(x))
        return steps.mean(1), steps


class Pooled(nn.Module):
    """A tower whose pooled output and whose steps both meet the text."""

    def __init__(self):
        super().__init__()
        self.tower, self.words, self.head = Tower(), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, text, image):
        (pooled, steps), words = self.tower(image), self.words(text)
        return self.head((pooled * words)[:, None] + steps * words[:, None])


class Unread(Together):
    """What is made of one modality does not reach the output."""

    passes = 0

    def forward(self, a, v):
        Unread.passes += 1
        return self.head(torch.cat([self.encoders.a(a), (self.drop(self.encoders.v(v)) > 99).float()], 1))


def text(steps=7):
    return torch.randint(1, 9, (B, steps), generator=torch.Generator().manual_seed(0))


def test_masks_belong_to_their_modality_and_targets_to_none():
    example = {
        "input_ids": text(),
        "pixels": torch.randn(B, 5),
        "attention_mask": torch.ones(B, 7),
        "labels": torch.arange(B),
    }
    found = find_taps(Towers(), example)
    assert found[0].taps == {"input_ids": "text", "pixels": "project"}
    assert found[0].layout == {"input_ids": "btd", "pixels": "bd"}
    assert found[0].points["pixels"].shape == (B, 6)
    assert found[0].points["pixels"].meets == "matmul in forward"
    assert found[0].points["pixels"].normalised
    assert {candidate.taps["pixels"] for candidate in found} > {"project"}
    named = find_taps(Towers(), example, {"text": "input_ids", "image": ["pixels"]})
    assert named[0].taps == {"text": "text", "image": "project"}
    table = str(named).splitlines()
    assert table[0].split()[:4] == ["modality", "tap", "layout", "shape"]
    assert table[1].split() == ["1", "text", "text", "btd", "(4,", "7,", "6)", "matmul", "in", "forward", "yes"]
    assert named[0].line == "attach(model, {'text': 'text', 'image': 'project'}, layout={'text': 'btd', 'image': 'bd'})"


def test_features_written_into_one_buffer_are_followed():
    found = find_taps(Written(), ({"one": torch.randn(B, 3), "two": torch.randn(B, 5)},))
    assert found[0].taps == {"one": "both.one", "two": "both.two"}


def test_an_output_that_is_its_input_is_a_tap_of_its_own():
    found = find_taps(Together(), (torch.randn(B, 3), torch.randn(B, 5)))
    assert found[0].taps == {"a": "encoders.a", "v": "drop"}
    assert "encoders.v" in {candidate.taps["v"] for candidate in found}


def test_auto_taps_of_a_plugin_use_its_first_batch():
    batches = [((torch.randn(B, 3), torch.randn(B, 5)), torch.arange(B) % 2)] * 2
    attached = fit_plugin(Together(), batches, "auto", steps=2)
    assert attached.taps == {"a": "encoders.a", "v": "drop"}
    assert "taps={'a': 'encoders.a', 'v': 'drop'}" in repr(attached)


def test_a_modality_is_tapped_where_it_first_meets_another():
    found = find_taps(Biased(), {"text": text(), "image": torch.randn(B, 6, 5)})
    assert found[0].taps == {"text": "words", "image": "image"}


def test_what_goes_past_a_tap_is_shown():
    example = {"text": text(), "image": torch.randn(B, 6, 5)}
    found = find_taps(Biased(), example)
    assert {name: point.whole for name, point in found[0].points.items()} == {"text": False, "image": True}
    assert str(found).splitlines()[1].endswith("a part")
    with pytest.warns(UserWarning, match="a part of text goes past the taps that were found, {'text': 'words'"):
        attach(Biased(), "auto", example=example)


def test_a_modality_that_meets_others_as_it_is_is_tapped_at_the_inputs():
    found = find_taps(Residual(), (torch.randn(B, 6, 4), torch.randn(B, 5, 4)))
    assert (found[0].at, found[0].taps, found[0].layout["audio"]) == ("", {"audio": 0, "visual": 1}, "btd")


def test_an_argument_beside_encoded_ones_is_tapped_itself():
    example = {"text": text(), "image": torch.randn(B, 6, 5), "bias": torch.randn(B, 2)}
    found = find_taps(Biased(), example)
    assert (found[0].at, found[0].taps) == (None, {"text": "words", "image": "image", "bias": ("bias",)})
    assert found[0].points["bias"].raw
    assert "input ('bias',)" in str(found)
    model = Biased().eval()
    attached = attach(model, found[0].taps, layout=found[0].layout, example=example, seed=0)
    assert torch.equal(attached(**example), model(**example))
    assert attached.calibration.reliability.shape == (B, 3)


def test_the_last_place_that_all_of_a_modality_passes_is_tapped():
    found = find_taps(Pooled(), {"text": torch.randn(B, 3), "image": torch.randn(B, 6, 5)})
    assert found[0].taps == {"text": "words", "image": "tower.second"}
    assert all(point.whole for point in found[0].points.values())


def test_a_model_that_maps_a_function_over_its_instances_is_followed():
    class Mapped(Together):
        def forward(self, a, v):
            scale = torch.vmap(lambda x, y: x.mul(2).add_(y.sum()) if x.dim() else x)(a, v)
            return self.head(torch.cat([self.encoders.a(a), self.encoders.v(v)], 1)) + scale.sum(1, keepdim=True) * 0

    found = find_taps(Mapped(), (torch.randn(B, 3), torch.randn(B, 5)))
    assert "encoders.a" in {candidate.taps["a"] for candidate in found}


def test_the_work_of_a_search_is_bounded():
    found = find_taps(Many(9), ([torch.randn(B, 3) for _ in range(9)],))
    assert [candidate.taps["parts_8"] for candidate in found[:2]] == ["encoders.8", "encoders.8.6"]
    with pytest.raises(UsageError, match="does not depend on the feature of 'v'"):
        find_taps(Unread(), (torch.randn(B, 3), torch.randn(B, 5)))
    assert Unread.passes < 20  # a tap that the output does not depend on is tried once


@pytest.mark.parametrize(
    ("model", "example", "inputs", "message"),
    [
        (
            Together(),
            (torch.randn(B, 3), torch.randn(B, 5)),
            {"a": "b", "v": "v"},
            r"inputs\['a'\] names 'b', which the example has not; it has a, v",
        ),
        (
            nn.Linear(3, 2),
            torch.randn(B, 3),
            None,
            "fewer than two modalities that the model reads .input.*name them by `inputs`",
        ),
        (
            Biased(),
            {"text": text(), "image": torch.randn(B, 6, 5), "bias": torch.randn(2)},
            None,
            "of text, image, bias alone and can be tapped .'bias' meets others as it is, add in forward; let it pass",
        ),
        (
            Together(),
            (torch.randn(B, 3), torch.randn(B, 5)),
            "a",
            "inputs must be modality -> names of arguments; found 'a'",
        ),
        ("model", (), None, "model must be a torch.nn.Module; found str"),
    ],
)
def test_what_cannot_be_found_is_refused(model, example, inputs, message):
    with pytest.raises(UsageError, match=message):
        find_taps(model, example, inputs)


def tiny(name):
    """Return a small model of transformers, an example, and the taps to be found."""
    hf = pytest.importorskip("transformers")
    words = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
    }
    sight = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    sight |= {"image_size": 32, "patch_size": 8}
    ids, pixels = torch.randint(3, 90, (B, 7)), torch.rand(B, 3, 32, 32)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    if name == "CLIP":
        config = hf.CLIPConfig(text_config=words | {"eos_token_id": 98}, vision_config=sight, projection_dim=16)
        return hf.CLIPModel(config), example, ("text_projection", "visual_projection")
    if name == "LLaVA":
        config = hf.LlavaConfig(
            vision_config=hf.CLIPVisionConfig(**sight),
            text_config=hf.LlamaConfig(**words),
            image_token_id=95,
            vision_feature_layer=-1,
        )
        ids = torch.cat([torch.full((B, 16), 95), ids], 1)
        example = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
        taps = ("model.language_model.embed_tokens", "model.multi_modal_projector")
        return hf.LlavaForConditionalGeneration(config), example, taps
    if name == "GIT":
        return hf.GitModel(hf.GitConfig(vision_config=sight, **words)), example, ("embeddings", "visual_projection")
    if name == "VisualBERT":
        example = {"input_ids": ids, "visual_embeds": torch.randn(B, 5, 20), "visual_attention_mask": torch.ones(B, 5)}
        taps = ("embeddings.word_embeddings", "embeddings.visual_projection")
        return hf.VisualBertModel(hf.VisualBertConfig(**words, visual_embedding_dim=20)), example, taps
    config = hf.WhisperConfig(
        vocab_size=99,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    example = {"input_features": torch.randn(B, 8, 40), "decoder_input_ids": ids}
    return hf.WhisperModel(config), example, ("encoder[last_hidden_state]", "decoder.embed_tokens")


@pytest.mark.parametrize("name", ["CLIP", "LLaVA", "GIT", "VisualBERT", "Whisper"])
def test_models_of_transformers_are_tapped_where_their_modalities_are_still_apart(name):
    torch.manual_seed(0)
    model, example, taps = tiny(name)
    with torch.no_grad():
        expected = tensors_of(model.eval()(**example))
        best = find_taps(model, example)[0]
        assert tuple(best.taps.values()) == taps
        attached = attach(model, best.taps, layout=best.layout, example=example, seed=0).eval()
        assert all(map(torch.equal, tensors_of(attached(**example)), expected))
    out = attached.train()(**example)
    (tensors_of(out)[0].square().mean() + attached.auxiliary_loss()).backward()
    assert all(p.grad.isfinite().all() for p in attached.calibrator.parameters() if p.grad is not None)
