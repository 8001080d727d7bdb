import pytest
import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.late import LateDense
from concordant.modalities import LAYOUTS
from concordant.training.batches import Tensors
from concordant.training.config import make_config
from concordant.training.model import assemble


def test_logits_are_those_of_a_small_network_on_the_pooled_features():
    model = LateDense({"b": FeatureSpec(2, LAYOUTS["btd"]), "a": FeatureSpec(3, LAYOUTS["bd"])}, classes=4).eval()
    a, b = torch.randn(5, 3), torch.randn(5, 6, 2)
    joined = torch.cat([a, b.mean(1)], 1)
    first, head = model.hidden[0], model.head
    hidden = (joined @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(model({"a": a, "b": b}, {}, {}), hidden @ head.weight.T + head.bias)


@pytest.fixture
def published():
    """Return a published model with random running statistics, and inputs of CMU-MOSI's kind."""
    shapes = {"text": (6, 24), "audio": (9, 5), "vision": (11, 20)}
    config = make_config("own", modalities=tuple(shapes), fusion="lf-dnn", preset="published")
    inputs = {name: ("btd", shape) for name, shape in shapes.items()}
    model = assemble(
        inputs, config.recipe, fusion="lf-dnn", calibrator="none", outputs=1, real=True, seed=0, preset="published"
    )
    for name in ("audio", "vision"):
        normalise = model.fusion.subnetworks[name].normalise
        normalise.running_mean.normal_()
        normalise.running_var.uniform_(0.5, 2)
    return model, {name: torch.randn(4, *shape) for name, shape in shapes.items()}


def by_hand(state, inputs):
    """Return the output of MMSA's LF_DNN, written from its description with plain functions."""
    found = {}
    for name in ("audio", "vision"):
        own = {key.removeprefix(f"subnetworks.{name}."): x for key, x in state.items() if f".{name}." in key}
        x = inputs[name].mean(1)
        x = (x - own["normalise.running_mean"]) / (own["normalise.running_var"] + 1e-5).sqrt()
        x = x * own["normalise.weight"] + own["normalise.bias"]
        for layer in (1, 3, 5):
            x = (x @ own[f"layers.{layer}.weight"].T + own[f"layers.{layer}.bias"]).clamp(min=0)
        found[name] = x
    own = {key.removeprefix("subnetworks.text."): x for key, x in state.items() if ".text." in key}
    h = c = torch.zeros(len(inputs["text"]), 128)
    for step in inputs["text"].unbind(1):
        gates = step @ own["lstm.weight_ih_l0"].T + own["lstm.bias_ih_l0"]
        gates = gates + h @ own["lstm.weight_hh_l0"].T + own["lstm.bias_hh_l0"]
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    found["text"] = h @ own["project.weight"].T + own["project.bias"]
    x = torch.cat([found["audio"], found["text"], found["vision"]], 1)
    for layer in (1, 3):
        x = (x @ state[f"hidden.{layer}.weight"].T + state[f"hidden.{layer}.bias"]).clamp(min=0)
    return x @ state["head.weight"].T + state["head.bias"]


def test_the_published_model_computes_what_mmsa_describes(published):
    model, inputs = published
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs).logits, by_hand(model.fusion.state_dict(), inputs))
    sizes = {name: spec.size for name, spec in model.fusion.meeting.items()}
    assert sizes == {"text": 256, "audio": 16, "vision": 128}
    # 768 features of text instead of 24 make the model of CMU-MOSI
    assert sum(p.numel() for p in model.parameters()) + (768 - 24) * 512 == 597_171
    rates = [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    assert rates == [0.2] * 3


def test_padded_steps_and_absent_modalities_do_not_matter_to_the_published_model(published):
    model, inputs = published
    model.train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    lengths = {"text": torch.tensor([6, 2, 3, 1]), "audio": torch.tensor([9, 4, 0, 5])}
    masks = {name: torch.arange(inputs[name].shape[1]) < count[:, None] for name, count in lengths.items()}
    present = {"vision": torch.tensor([True, True, False, True])}
    before = model(inputs, masks, present).logits
    spoilt = {name: torch.where(masks[name].unsqueeze(2), inputs[name], 1e3) for name in masks}
    spoilt["vision"] = torch.where(present["vision"][:, None, None], inputs["vision"], 1e3)
    torch.testing.assert_close(model(spoilt, masks, present).logits, before)
    once = model.prepared(Tensors(inputs, torch.zeros(4), masks, present))
    assert once.inputs["text"] is inputs["text"]
    assert once.inputs["audio"].shape == (4, 5)
    torch.testing.assert_close(model(once.inputs, once.masks, present).logits, before)
