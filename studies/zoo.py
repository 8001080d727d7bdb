"""Try every multimodal class of transformers that can be built tiny: `python -m studies.zoo [CLASS ...]`.

Classes are those of the automatic mappings whose forward takes two kinds of input. Each is built with random weights
from its default configuration with small sizes, and called with examples of common forms until one fits and its output
depends on every kind. Then the first suggestion of `find_taps` is attached and checked. A class that no example fits is
left out; the table ends with how many were.
"""

from __future__ import annotations

import inspect
import itertools
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto import configuration_auto, modeling_auto

from concordant import attach, find_taps
from concordant.attach.containers import tensors_of
from concordant.report.record import Table, markdown
from studies import common

TASKS = (
    *("", "_FOR_IMAGE_TEXT_TO_TEXT", "_FOR_MULTIMODAL_LM", "_FOR_SPEECH_SEQ_2_SEQ", "_FOR_ZERO_SHOT_OBJECT_DETECTION"),
    *("_FOR_VISUAL_QUESTION_ANSWERING", "_FOR_SEQUENCE_CLASSIFICATION"),
)
KINDS = {  # argument -> modality
    "input_ids": "text",
    "decoder_input_ids": "text",
    "pixel_values": "image",
    "pixel_values_videos": "video",
    "input_features": "audio",
    "input_values": "audio",
    "bbox": "layout",
}
MARKS = {"image": 95, "video": 94, "audio": 93}  # tokens in whose places the features of another kind are put
TOKENS = {"bos": 1, "eos": 98, "pad": 0, "decoder_start": 1, "sep": 98}
SIZES = {  # settings that end with one of these words
    32: "hidden_size d_model embed_dim n_embd model_dim dim width out_hidden_size output_dim hidden_dim query_dim "
    "word_embed_proj_dim project_dim projection_dim image_size input_size",
    2: "num_hidden_layers encoder_layers decoder_layers num_layers num_decoder_layers depth n_layer layers",
    4: "attention_heads num_heads n_head n_heads num_key_value_heads key_value_heads num_local_experts num_experts",
    8: "head_dim d_kv patch_size num_mel_bins hidden_size_per_layer_input",
    40: "intermediate_size ffn_dim d_ff intermediate_dim mlp_dim",
    5: "num_query_tokens num_queries",
    99: "vocab_size",
    128: "position_embeddings",
}
SMALL = {word: size for size, words in SIZES.items() for word in words.split()}
COUNTS = (16, 4, 1, 10, 20, 5, 17, 2, 8, 9, 32, 36, 40, 64, 256)  # of marks that a model may want per instance
LARGEST = 5e6  # parameters
STEPS = ("built", "attached", "equal", "trained", "detached", "single")
LIMIT = 240  # seconds per class


def classes() -> dict[str, tuple[Any, str]]:
    """Return name -> class and type of its configuration, of all classes with two kinds of input or more."""
    found: dict[str, tuple[Any, str]] = {}
    for task in TASKS:
        for kind, names in getattr(modeling_auto, f"MODEL{task}_MAPPING_NAMES").items():
            name = names if isinstance(names, str) else names[0]
            with suppress(Exception):  # of an import that needs a package that is not there
                one = getattr(transformers, name)
                if len({KINDS[key] for key in inspect.signature(one.forward).parameters if key in KINDS}) > 1:
                    found.setdefault(name, (one, kind))
    return found


def shrunk(held: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a configuration with small sizes and the tokens of `MARKS`."""
    out: dict[str, Any] = {}
    for key, value in held.items():
        word = next((word for word in SMALL if key == word or key.endswith(f"_{word}")), None)
        whole, several = type(value) is int, isinstance(value, (list, tuple))
        if key in ("transformers_version", "architectures", "_name_or_path", "dtype", "id2label", "label2id"):
            continue
        if isinstance(value, dict):
            out[key] = shrunk(value) if not key.startswith("rope") else value
            if "mrope_section" in out[key]:
                out[key] = out[key] | {"mrope_section": [1, 1, 2]}
        elif whole and key.endswith(("token_id", "token_index")):
            kind = key.split("_token")[0]
            out[key] = (MARKS | TOKENS).get(kind, 60 + sum(map(ord, key)) % 25)
        elif word is not None and whole:
            out[key] = min(SMALL[word], value)
        elif several and key in ("image_size", "patch_size"):
            out[key] = [SMALL[key]] * len(value)
        elif several and key in ("depths", "num_heads", "hidden_sizes"):
            out[key] = [min(one, 16 if key == "hidden_sizes" else 2) for one in value]
        else:
            out[key] = value[-2:] if key == "layer_types" and value else value
    return out


def examples(model: nn.Module, rows: int) -> Iterator[dict[str, Tensor]]:
    """Yield arguments that a model may take, for a batch of `rows` instances."""
    wanted, config = inspect.signature(model.forward).parameters, cast(Any, model.config)
    draw = torch.Generator().manual_seed(0)

    def number(*names: str, default: int) -> int:
        parts = (config, *(getattr(config, f"{part}_config", None) for part in ("vision", "audio", "encoder", "text")))
        values = (getattr(part, name, None) for part in parts for name in names)
        values = (value[0] if isinstance(value, (list, tuple)) and value else value for value in values)
        return next((value for value in values if type(value) is int), default)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    def words(length: int) -> Tensor:
        return torch.randint(3, 60, (rows, length), generator=draw)

    side, patch = number("image_size", "input_size", default=32), number("patch_size", default=8)
    mels = number("num_mel_bins", "input_feat_per_channel", "feature_size", default=8)
    flat = 3 * patch * patch * number("temporal_patch_size", default=1)
    grid, sizes = torch.tensor([[1, 4, 4]] * rows), torch.tensor([[side, side]] * rows)
    pixels: list[dict[str, Tensor]] = [
        *({"pixel_values": rand(rows, *more, 3, side, side)} for more in ((), (1,), (2,))),
        *({"pixel_values": rand(rows * 16, *of), "image_grid_thw": grid} for of in ((flat,), (3, patch, patch))),
        *({"pixel_values": rand(rows, *more, 3, side, side), "image_sizes": sizes} for more in ((2,), ())),
    ]
    sounds: list[dict[str, Tensor]] = [
        *({"input_features": rand(rows, *of)} for of in ((mels, 40), (40, mels), (mels, 3000))),
        *({"input_values": rand(rows, *of)} for of in ((4000,), (1, 4000))),
    ]
    options = (
        pixels if "pixel_values" in wanted else [{}],
        sounds if {"input_features", "input_values"} & set(wanted) else [{}],
    )
    held = config.to_dict()
    named = {kind: (held.get(f"{kind}_token_id"), held.get(f"{kind}_token_index")) for kind in MARKS}
    mark = next((mark for kind, mark in MARKS.items() if mark in named[kind]), None)
    for media in (one | other for one, other in itertools.product(*options)):
        for count in (0,) if mark is None else COUNTS:
            ids = torch.cat([words(4), torch.full((rows, count), mark or 0), words(3)], 1)
            marked = (ids == (mark or 0)).long()
            given = media | {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": words(3)}
            given |= {"bbox": torch.randint(0, 50, (rows, ids.shape[1], 4), generator=draw).sort(-1).values}
            given |= {"mm_token_type_ids": marked, "token_type_ids": marked} if count else {}
            if set(media) <= set(wanted):
                yield {key: value for key, value in given.items() if key in wanted}


def call(model: nn.Module, example: dict[str, Tensor]) -> list[Tensor]:
    """Return the tensors of the output of a model, which may change its arguments."""
    torch.manual_seed(1)
    return tensors_of(model(**{key: value.clone() for key, value in example.items()}))


def alike(some: list[Tensor], others: list[Tensor]) -> bool:
    """Return whether two outputs are equal bit for bit."""
    return len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def build(name: str, rows: int = 4) -> tuple[nn.Module, dict[str, Tensor], dict[str, list[str]]]:
    """Return a tiny model in evaluation mode, an example that it takes, and modality -> arguments.

    Raises:
        Exception: whatever the model raises of the last example, or of its configuration.
    """
    one, kind = classes()[name]
    kind = configuration_auto.CONFIG_MAPPING[kind]
    config = kind(**shrunk(kind().to_dict()))
    with torch.device("meta"):
        size = sum(p.numel() for p in one(config).parameters())
    if size > LARGEST:
        raise ValueError(f"it has {size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    model, last = one(config).eval(), Exception("no example fits")
    for example in examples(model, rows):
        inputs: dict[str, list[str]] = {}
        for key in (key for key in example if key in KINDS):
            answer = key == "decoder_input_ids" and "input_ids" in example
            inputs.setdefault("answer" if answer else KINDS[key], []).append(key)
        try:
            with torch.no_grad():
                plain = call(model, example)
                changed = {key: x.clone() for key, x in example.items() if key in KINDS}
                for x in changed.values():
                    x[:, :1] = x[:, :1] * 0.5 if x.is_floating_point() else (x[:, :1] + 5) % 49
                if len(inputs) > 1 and not any(alike(plain, call(model, example | {k: x})) for k, x in changed.items()):
                    return model, example, inputs
        except Exception as error:
            last = error
    raise last


def tried(name: str) -> dict[str, Any]:
    """Return which steps one class passes, and the error that ended them."""
    done: dict[str, Any] = dict.fromkeys(STEPS, False)
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT)
    try:
        model, example, inputs = build(name)
        with torch.no_grad():
            plain = call(model, example)
        state = {key: x.clone() for key, x in model.state_dict().items()}
        done["built"] = True
        best = find_taps(model, example, inputs)[0]
        attached = attach(model, best.taps, at=best.at, layout=best.layout, example=example, seed=0).eval()
        done |= {"attached": True, "taps": best.taps}
        with torch.no_grad():
            done["equal"] = alike(plain, call(attached, example))
            one = build(name, rows=1)[1]
            done["single"] = alike(call(model, one), call(attached, one))
            attached.detach()
            same = all(torch.equal(x, state[key]) for key, x in model.state_dict().items())
            done["detached"] = same and alike(plain, call(model, example))
        attached = attach(model, best.taps, at=best.at, layout=best.layout, example=example, seed=0).train()
        optimizer = torch.optim.SGD(attached.parameters(), 0.01)
        for _ in range(2):
            out = [x.float().square().mean() for x in call(attached, example) if x.requires_grad]
            loss = sum(out, attached.auxiliary_loss())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        done["trained"] = all(bool(p.isfinite().all()) for p in attached.parameters())
    except Exception as error:
        done["error"] = f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.alarm(0)
    return done


def _late(*_: object) -> None:
    raise TimeoutError(f"it took more than {LIMIT} s")


def main(names: common.Names = None) -> None:
    """Try classes, print what does not pass, and the table."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    wanted, counts = common.chosen(names, classes(), "class"), Counter[str]()
    for name in wanted:
        done = tried(name)
        counts.update(step for step in STEPS if done[step])
        print(f"{name}: {'all' if all(done[step] for step in STEPS) else done}", flush=True)
    rows = [[f"{step} (of {len(wanted)})" if step == "built" else step, str(counts[step])] for step in STEPS]
    print("\n" + markdown(Table("", "", ["step", "classes"], rows)))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.zoo")
