import copy
import importlib
import pickle
import random
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from concordant import (
    ConcordantError,
    ContextualCalibrator,
    JointGate,
    Perturbation,
    UsageError,
    attach,
    repeat_targets,
)
from concordant.modalities import AUTO

B = 6
TAPS = {"audio": "audio_net", "visual": "visual_net"}


class Two(nn.Module):
    """Two encoders and a head; `forward` is what a test gives it."""

    def __init__(self, forward=None):
        super().__init__()
        self.audio_net, self.visual_net, self.head = nn.Linear(5, 4), nn.Linear(3, 4), nn.Linear(8, 2)
        self.middle = nn.Linear(4, 4)
        self.way = forward

    def forward(self, audio, visual):
        return plain(self, audio, visual) if self.way is None else self.way(self, audio, visual)


def plain(m, audio, visual):
    return m.head(torch.cat([m.audio_net(audio), m.visual_net(visual)], 1))


def batch(rows=B):
    return torch.randn(rows, 5), torch.randn(rows, 3)


def made(forward=None, taps=TAPS, **options):
    torch.manual_seed(0)
    model = Two(forward)
    return model, attach(model, taps, seed=0, **{"layout": "bd", **options})


def trained(attached, *inputs):
    """Give the calibrator weights that do something."""
    attached(*inputs)
    with torch.no_grad():
        for parameter in attached.calibrator.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return attached


# What the model gets


def test_the_head_gets_what_the_calibrator_makes_of_the_encoders_features():
    model, attached = made()
    audio, visual = batch()
    trained(attached.eval(), audio, visual)
    out = attached(audio, visual)
    features = {"audio": model.audio_net(audio), "visual": model.visual_net(visual)}
    expected = attached.calibrator(features)
    torch.testing.assert_close(out, model.head(torch.cat([expected.features["audio"], expected.features["visual"]], 1)))
    torch.testing.assert_close(attached.calibration.reliability, expected.reliability)


def test_what_lies_between_the_taps_is_computed_from_calibrated_features():
    def way(m, audio, visual):
        a = F.gelu(m.middle(m.audio_net(audio)))
        return m.head(torch.cat([a, m.visual_net(visual)], 1))

    model, attached = made(way)
    audio, visual = batch()
    out = trained(attached.eval(), audio, visual)(audio, visual)
    found = attached.calibration.features
    expected = model.head(torch.cat([F.gelu(model.middle(found["audio"])), found["visual"]], 1))
    torch.testing.assert_close(out, expected)


class Reverse(torch.autograd.Function):
    """A custom function, which returns plain tensors whatever its input."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


@pytest.mark.parametrize(("frozen", "grad"), [(None, True), ("backbone", True), (None, False)])
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda x: x.detach(), id="detached"),
        pytest.param(lambda x: torch.where(x > 0, 1.0, 0.0), id="thresholded"),
        pytest.param(lambda x: torch.einsum("ij,jk->ik", torch.eye(B), x), id="multiplied"),
        pytest.param(lambda x: x.max(1, keepdim=True).values + x[:, :1] + x.T[1:2].T.expand(B, 4), id="reduced"),
        pytest.param(lambda x: torch.zeros(B, 4).add_(x), id="added in place"),
        pytest.param(lambda x: torch.zeros_like(x).copy_(x), id="written into another tensor"),
        pytest.param(lambda x: torch.stack(list(x.unbind(1)), 1), id="taken apart"),
        pytest.param(Reverse.apply, id="a custom function"),
        pytest.param(lambda x: torch.zeros(B, 4).index_put_((torch.arange(B),), x), id="put into a plain tensor"),
    ],
)
def test_a_calibrated_feature_is_followed_through(step, frozen, grad):
    if step == Reverse.apply and not grad:
        pytest.skip("only the autograd graph shows what a custom function computes")

    def way(m, audio, visual):
        a = m.middle(step(m.audio_net(audio)))
        return m.head(torch.cat([a, m.visual_net(visual)], 1))

    model, attached = made(way, freeze=frozen)
    inputs = batch()
    attached.eval()
    trained(attached, *inputs)
    with torch.set_grad_enabled(grad):
        out = attached(*inputs)
    found = attached.calibration.features
    torch.testing.assert_close(out, model.head(torch.cat([model.middle(step(found["audio"])), found["visual"]], 1)))


@pytest.mark.parametrize("grad", [True, False])
def test_a_tap_may_depend_on_the_shape_of_another_feature(grad):
    def way(m, audio, visual):
        a = m.audio_net(audio)
        shapes = [torch.zeros_like(a), a.new_zeros(B, 4), torch.zeros(a.shape), torch.ones(a.size(0), 4) - 1]
        return m.head(torch.cat([a, m.visual_net(visual + sum(shapes)[:, :3])], 1))

    model, attached = made(way)
    inputs = batch()
    with torch.set_grad_enabled(grad):
        assert torch.equal(attached.eval()(*inputs), model.eval()(*inputs))


def test_functional_dropout_before_between_and_behind_the_taps_draws_what_the_model_draws():
    def way(m, audio, visual):
        a = m.audio_net(F.dropout(audio, 0.4, m.training))
        skip = F.dropout(visual, 0.4, m.training)
        if random.random() < 0.5 or np.random.rand() < 0.3:  # noqa: NPY002, S311
            skip = skip * 2
        v = F.dropout(m.visual_net(skip), 0.4, m.training)
        return m.head(F.dropout(torch.cat([a, v], 1), 0.4, m.training)) + skip.sum(1, keepdim=True)

    model, attached = made(way, calibrator=still)
    inputs = batch()
    for seed in range(8):
        outs = []
        for each in (model, attached):
            torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002
            outs.append(each.train()(*inputs))
        assert torch.equal(*outs)


def still(sizes, layouts):
    return ContextualCalibrator(sizes, layouts=layouts, perturbation=False, dropout=0.0, seed=0)


def test_in_training_every_batch_is_perturbed_anew_and_the_models_draws_stay_its_own():
    _, attached = made()
    inputs = batch()
    attached.train()
    seen = []
    for _ in range(4):
        torch.manual_seed(0)
        attached(*inputs)
        seen.append(attached.calibration.perturbed)
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(0)))
    assert len({tuple(t.flatten().tolist()) for t in seen}) > 1
    assert attached.auxiliary_loss().item() > 0


def test_the_same_seed_perturbs_the_same():
    perturbed = []
    for _ in range(2):
        torch.manual_seed(5)
        inputs = batch()
        attached = made()[1].train()
        attached(*inputs)
        perturbed.append(attached.calibration.perturbed)
    assert torch.equal(*perturbed)


def test_hooks_that_are_there_already_run_once():
    model, attached = made()
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append("model in"))
    model.register_forward_hook(lambda *_: seen.append("model out"))
    model.audio_net.register_forward_hook(lambda m, i, out: seen.append("audio") or out * 2)
    model.head.register_forward_pre_hook(lambda *_: seen.append("head"))
    inputs = batch()
    expected = model.eval()(*inputs)
    once, seen[:] = sorted(seen), []
    assert torch.equal(attached.eval()(*inputs), expected)
    assert sorted(seen) == once


def test_a_module_whose_forward_is_called_directly_is_a_tap_too():
    def way(m, audio, visual):
        return m.head.forward(torch.cat([m.audio_net.forward(audio), m.visual_net.forward(visual)], 1))

    model, attached = made(way)
    inputs = batch()
    assert torch.equal(attached.eval()(*inputs), model(*inputs))
    assert attached.calibration is not None


def test_a_model_that_holds_every_error_is_left_all_the_same():
    def way(m, audio, visual):
        a = m.audio_net(audio)
        try:
            v = m.visual_net(visual)
        except:  # noqa: E722
            v = torch.zeros(B, 4)
        return m.head(torch.cat([a, v], 1))

    model, attached = made(way)
    inputs = batch()
    assert torch.equal(attached.eval()(*inputs), model(*inputs))


def test_a_dictionary_that_the_model_empties_is_given_twice():
    class Emptying(Two):
        def forward(self, given):
            return plain(self, given.pop("audio"), given.pop("visual"))

    model = Emptying().eval()
    audio, visual = batch()
    attached = attach(model, TAPS, layout="bd")
    assert torch.equal(attached({"audio": audio, "visual": visual}), model({"audio": audio, "visual": visual}))


def test_inference_mode_gives_the_models_own_output():
    model, attached = made()
    inputs = batch()
    with torch.inference_mode():
        assert torch.equal(attached.eval()(*inputs), model.eval()(*inputs))


def test_autocast_gives_the_models_own_output_in_its_own_precision():
    model, attached = made()
    inputs = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attached.eval()(*inputs)
        assert out.dtype == torch.bfloat16
        assert torch.equal(out, model.eval()(*inputs))
        attached.train()
        (attached(*inputs).float().mean() + attached.auxiliary_loss()).backward()
    assert any(p.grad is not None for p in attached.calibrator.parameters())


def test_autocast_keeps_the_gradients_of_what_both_passes_run():
    def way(m, audio, visual):
        between = m.middle(m.audio_net(audio))
        return m.head(torch.cat([between, m.visual_net(visual)], 1))

    model, attached = made(way, perturbation=False)
    inputs, found = batch(), []
    for net in (model, attached.train()):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(*inputs).float().square().sum()
        loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    assert found[0]["middle.weight"].abs().sum() > 0
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_gradient_checkpointing_of_a_tap_gives_the_same_gradients():
    def way(m, audio, visual):
        a = checkpoint(m.audio_net, audio, use_reentrant=False)
        v = checkpoint(m.visual_net, visual, use_reentrant=False)
        return checkpoint(m.head, torch.cat([a, v], 1), use_reentrant=False)

    inputs = batch()
    grads = []
    for forward in (None, way):
        _model, attached = made(forward, calibrator=still)
        trained(attached.train(), *inputs)
        (attached(*inputs).square().sum() + attached.auxiliary_loss()).backward()
        grads.append([p.grad for p in attached.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.compile
def test_a_compiled_attached_model_gives_the_same_and_breaks_the_graph_once():
    _, attached = made()
    inputs = batch()
    expected = trained(attached.eval(), *inputs)(*inputs)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(attached, backend="eager", fullgraph=False)(*inputs), expected)
    torch._dynamo.reset()

    def around(audio, visual):
        return attached(audio * 2, visual) + 1

    found = torch._dynamo.explain(around)(*inputs)
    assert (found.graph_count, found.graph_break_count) == (2, 1)
    assert torch.equal(torch.compile(around, backend="eager")(*inputs), around(*inputs))
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(attached, backend="eager", fullgraph=True)(*inputs)
    torch._dynamo.reset()


@pytest.mark.compile
def test_compiled_encoders_stay_compiled():
    model, attached = made()
    inputs = batch()
    expected = trained(attached.eval(), *inputs)(*inputs)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    model.audio_net = torch.compile(model.audio_net, backend=counter)
    model.visual_net.compile(backend=counter)
    for _ in range(3):
        assert torch.equal(attached(*inputs), expected)
    assert counter.frame_count == 2
    torch._dynamo.reset()


# Masks, presence, copies, freezing


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(5, 4), nn.Linear(3, 4), nn.Linear(8, 2)
        self.masker = nn.Identity()

    def forward(self, one, two, lengths):
        valid = self.masker(torch.arange(one.shape[1])[None] < lengths[:, None])
        one = (self.one(one) * valid[..., None]).sum(1)
        return self.head(torch.cat([one, self.two(two)], 1))


def by_lengths(one, two, lengths):
    return torch.arange(one.shape[1])[None] < lengths[:, None]


@pytest.mark.parametrize("source", ["masker", by_lengths])
def test_masks_and_presence_reach_the_calibrator(source):
    torch.manual_seed(0)
    inputs = torch.randn(B, 7, 5), torch.randn(B, 3), torch.tensor([1, 2, 3, 4, 5, 7])
    attached = attach(
        Steps(),
        {"one": "one", "two": "two"},
        layout={"one": "btd", "two": "bd"},
        masks={"one": source},
        present={"two": lambda one, two, lengths: lengths > 2},
        seed=0,
    ).eval()
    trained(attached, *inputs)
    one, two, lengths = inputs
    out = attached(one, two, lengths)
    assert attached.calibration.present.tolist() == [[True, bool(n > 2)] for n in lengths]
    junk = one + 100 * ~by_lengths(*inputs)[..., None]
    torch.testing.assert_close(attached(junk, two, lengths), out)


def test_with_copies_the_head_sees_every_instance_clean_and_perturbed():
    model, attached = made(copies=True)
    inputs = batch()
    attached.train()
    attached.labels = torch.arange(B) % 3
    out = attached(*inputs)
    assert out.shape == (2 * B, 2)
    torch.testing.assert_close(out[:B], model(*inputs))
    perturbed = attached.calibration.perturbed
    assert not perturbed[:B].any()
    assert bool((perturbed[B:].sum(1) == 1).all())
    F.cross_entropy(out, repeat_targets(torch.arange(B) % 2)).backward()
    assert attached.eval()(*inputs).shape == (B, 2)


@pytest.mark.parametrize(
    "way",
    [
        lambda m, a, v: plain(m, a, v) + a.sum(1, keepdim=True),
        lambda m, a, v: (m.audio_net(a), m.visual_net(v), torch.zeros(B, 2))[2],
    ],
)
def test_copies_that_meet_single_rows_are_refused(way):
    attached = made(way, copies=True)[1].train()
    with pytest.raises(UsageError, match=r"copies=True gives the rest of the model 2B rows.*use copies=False"):
        attached(*batch())


def test_a_frozen_backbone_is_left_alone_and_in_evaluation():
    torch.manual_seed(0)
    model = Two().train()
    model.middle.requires_grad_(False)
    attached = attach(model, TAPS, layout="bd", freeze="backbone", example=batch())
    attached.train()
    assert not any(module.training for module in model.modules())
    assert attached.calibrator.training
    (attached(*batch()).sum() + attached.auxiliary_loss()).backward()
    assert all(p.grad is None for p in model.parameters())
    assert any(p.grad is not None for p in attached.calibrator.parameters())
    assert attached.detach() is model
    assert all(module.training for module in model.modules())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["middle.weight", "middle.bias"]


@pytest.mark.parametrize("options", [{}, {"taps": {"audio": 0, "visual": 1}, "at": ""}])
def test_calibrate_stops_before_the_head(options):
    model, attached = made(**options)
    inputs = batch()
    trained(attached.eval(), *inputs)
    expected = attached(*inputs)
    found, calls = attached.calibration, []
    model.head.register_forward_hook(lambda *_: calls.append(1))
    calibration = attached.calibrate(*inputs)
    assert not calls
    assert torch.equal(calibration.reliability, found.reliability)
    assert calibration is attached.calibration
    assert torch.equal(attached(*inputs), expected)  # and the next forward is whole again
    assert calls == [1]


def test_a_detached_model_calibrates_nothing():
    attached = made()[1]
    attached.detach()
    with pytest.raises(ConcordantError, match="the calibrator is detached; nothing was calibrated"):
        attached.calibrate(*batch())


def test_after_detach_the_wrapper_passes_on():
    model, attached = made()
    inputs = batch()
    trained(attached.eval(), *inputs)
    attached.detach()
    assert torch.equal(attached(*inputs), model(*inputs))


# The calibrator


def test_feature_sizes_are_found_by_the_first_forward_or_given():
    inputs = batch()
    assert made()[1].calibrator is None
    assert made(example=inputs)[1].calibrator.sizes == {"audio": 4, "visual": 4}
    assert made(example={"audio": inputs[0], "visual": inputs[1]})[1].calibrator.sizes == {"audio": 4, "visual": 4}
    assert made(sizes={"visual": 4, "audio": 4})[1].calibrator.names == ("audio", "visual")
    one, two = made(example=inputs)[1], made()[1]
    two(*inputs)
    for a, b in zip(one.calibrator.parameters(), two.calibrator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_example_leaves_modes_and_random_numbers_as_they_were():
    torch.manual_seed(1)
    expected = torch.rand(2)
    model = Two(lambda m, a, v: plain(m, F.dropout(a), v)).train()
    inputs = batch()
    torch.manual_seed(1)
    attached = attach(model, TAPS, layout="bd", example=inputs, seed=0)
    assert torch.equal(torch.rand(2), expected)
    assert all(module.training for module in attached.modules())


def test_what_training_inflicts_can_be_said():
    settings = Perturbation(kinds=("noise",), probability=1.0)
    _, attached = made(perturbation=settings)
    attached.train()(*batch())
    assert attached.calibrator.perturbation == settings
    assert bool((attached.calibration.perturbed.sum(1) == 1).all())
    _, attached = made(perturbation=False)
    attached.train()(*batch())
    assert attached.calibration.perturbed is None


def test_another_calibrator_is_built_or_taken():
    inputs = batch()
    built = made(calibrator=JointGate)[1]
    built(*inputs)
    assert isinstance(built.calibrator, JointGate)
    own = ContextualCalibrator({"audio": 4, "visual": 4})
    assert made(calibrator=own)[1].calibrator is own


def test_parameters_stay_the_same_objects():
    model, attached = made(example=batch())
    assert {id(p) for p in attached.parameters()} >= {id(p) for p in model.parameters()}
    assert attached.model.head is model.head


def test_missing_and_unexpected_keys_have_the_names_of_parameters():
    _, attached = made(example=batch())
    state = attached.state_dict()
    del state["model.head.bias"], state["calibrator.heads.audio.gate.bias"]
    state["stray"] = torch.zeros(1)
    found = attached.load_state_dict(state, strict=False)
    assert found.missing_keys == ["model.head.bias", "calibrator.heads.audio.gate.bias"]
    assert found.unexpected_keys == ["stray"]


def test_a_calibrators_checkpoint_needs_a_calibrator():
    state = made(example=batch())[1].state_dict()
    with pytest.raises(RuntimeError, match="the calibrator of this checkpoint has no place yet"):
        made()[1].load_state_dict(state)


def test_copies_and_pickles_work_apart_from_the_original():
    inputs = batch()
    _, attached = made(calibrator=JointGate)
    attached(*inputs)
    with torch.no_grad():
        expected = attached.eval()(*inputs)
    for other in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        assert torch.equal(other(*inputs), expected)
        assert other.model.head is not attached.model.head


# Refusals


def test_parameters_are_refused_before_the_sizes_are_known():
    with pytest.raises(ConcordantError, match=r"has no parameters yet.*call the model on one batch first.*`example`"):
        made()[1].parameters().__next__()
    with pytest.raises(ConcordantError, match="call the model on a batch first"):
        made()[1].auxiliary_loss()


@pytest.mark.parametrize(
    ("taps", "options", "message"),
    [
        (
            {"a": "audio_ne", "v": "visual_net"},
            {},
            r"taps\['a'\] is 'audio_ne', which the model does not have; near "
            "are: audio_net",
        ),
        ({"a": "xyz", "v": "visual_net"}, {}, "near are: audio_net, visual_net, head, middle"),
        ({"a": "audio_net"}, {}, r"taps must name at least two modalities, .*; found \['a'\]"),
        (
            {0: "audio_net", "v": "visual_net"},
            {},
            "0 cannot name a modality: use a plain word, without dots, unknown to",
        ),
        ({"a.b": "audio_net", "v": "visual_net"}, {}, "'a.b' cannot name a modality: use a plain word"),
        (["audio_net", "visual_net"], {}, "taps must name at least two modalities"),
        ({"a": 3.5, "v": "visual_net"}, {}, r"taps\['a'\] must be the name of a submodule.*found 3.5"),
        ({"a": "audio_net#0", "v": "visual_net"}, {}, "found 'audio_net#0'"),
        ({"a": "audio_net", "v": "audio_net"}, {}, "'a' and 'v' are both tapped at 'audio_net'.*audio_net#1"),
        (TAPS, {"layout": "bdd"}, "unknown layout 'bdd' for 'audio'; choose from: auto, bd, btd"),
        (TAPS, {"layout": {"text": "bd"}}, "layout names 'text', which taps does not; the modalities are audio, vis"),
        (TAPS, {"masks": {"text": "head"}}, "masks names 'text', which taps does not"),
        (TAPS, {"masks": {"audio": 3}}, r"masks\['audio'\] must be a function of the model's inputs.*found 3"),
        (TAPS, {"masks": {"audio": "none"}}, "masks.audio is 'none', which the model does not have"),
        (TAPS, {"freeze": "head"}, "freeze must be None or 'backbone'; found 'head'"),
        (TAPS, {"copies": 2}, "copies must be True or False; found 2"),
        (TAPS, {"copies": torch.zeros(2)}, r"copies must be True or False; found Tensor of shape \(2,\)"),
        (TAPS, {"seed": 0.5}, "seed must be an integer or None; found 0.5"),
        (TAPS, {"perturbation": 0.5}, "perturbation must be True, False, None or a Perturbation; found 0.5"),
        (TAPS, {"freeze": torch.zeros(2)}, r"freeze must be None or 'backbone'; found Tensor of shape \(2,\)"),
        (TAPS, {"layout": {"audio": 3}}, "unknown layout 3 for 'audio'"),
        ({"train": "audio_net", "visual": "visual_net"}, {}, "'train' cannot name a modality"),
        (
            TAPS,
            {"layout": ["bd", "bd"]},
            r"layout must be one for all features, or modality -> layout; found \['bd', 'b",
        ),
        (
            TAPS,
            {"calibrator": "context"},
            "calibrator must be a calibrator, or a class or function .*; found 'context'",
        ),
        (TAPS, {"sizes": [4, 4]}, r"sizes is \[4, 4\]; the modalities of taps are audio, visual"),
        (TAPS, {"sizes": {"audio": 4}}, "sizes names audio; the modalities of taps are audio, visual"),
        (TAPS, {"calibrator": ContextualCalibrator({"a": 4, "b": 4})}, "the calibrator is of a, b; the modalities of "),
        (
            TAPS,
            {"calibrator": JointGate, "perturbation": False},
            "perturbation is for the calibrator that attach build",
        ),
        (TAPS, {"at": "hed"}, "at is 'hed', which the model does not have; near are: head"),
        ({"a": -1, "v": 1}, {"at": "head"}, r"taps\['a'\] must be a position .*found -1"),
        ({"a": 0, "v": 1}, {"at": "", "masks": {"a": "head"}}, "with `at`, masks and present must be functions"),
    ],
)
def test_wrong_arguments_are_refused(taps, options, message):
    with pytest.raises(UsageError, match=message):
        attach(Two(), taps, **options)


@pytest.mark.filterwarnings("ignore")
def test_scripted_models_are_attached_to_at_their_inputs_alone():
    scripted = torch.jit.trace(Two(), batch(2))
    with pytest.raises(UsageError, match="a scripted or traced model calls its submodules where no tap can follow"):
        attach(scripted, TAPS)
    attached = attach(scripted, {"audio": np.int64(0), "visual": 1}, at="", layout="bd").eval()
    given = batch()
    assert torch.equal(attached(*given), scripted(*given))


def test_what_is_no_module_or_attached_already_is_refused():
    with pytest.raises(UsageError, match=r"model must be a torch\.nn\.Module; found function"):
        attach(plain, TAPS)
    with pytest.raises(UsageError, match=r"has a calibrator attached already; call its detach\(\) first"):
        attach(made()[1], TAPS)


def twice(m, a, v):
    return m.head(torch.cat([m.audio_net(a) + m.audio_net(a), m.visual_net(v)], 1))


def late(m, a, v):
    first = plain(m, a, v)
    return first + m.audio_net(a).sum(1, keepdim=True)


def dependent(m, a, v):
    a = m.audio_net(a)
    return m.head(torch.cat([a, m.visual_net(v * a.mean(1, keepdim=True).relu())], 1))


def hidden(m, a, v):
    a = m.audio_net(a)
    return m.head(torch.cat([a, m.visual_net(v * Reverse.apply(a)[:, :1])], 1))


def in_place(m, a, v):
    a.mul_(2)
    return plain(m, a, v)


@pytest.mark.parametrize(
    ("way", "taps", "options", "message"),
    [
        (None, {"a": "audio_net", "v": "middle"}, {}, r"the taps 'middle' \(v\) did not fire"),
        (twice, TAPS, {}, "the tap 'audio_net' of 'audio' fires twice in one forward.*audio_net#1"),
        (late, TAPS, {}, "the tap 'audio_net' of 'audio' fires twice"),
        (dependent, TAPS, {}, "the tap 'visual_net' of 'visual' depends on the tapped feature of 'audio'"),
        (hidden, TAPS, {}, "the tap 'visual_net' of 'visual' depends on the tapped feature of 'audio'"),
        (None, TAPS, {"layout": "btd"}, "the tap of 'audio' must give features in layout 'btd'; found shape"),
        (None, TAPS, {"sizes": {"audio": 3, "visual": 4}}, r"features\['audio'\] must have layout 'bd' with feature s"),
        (None, {"audio": "audio_net[1][0][2]", "visual": "visual_net"}, {}, r"asks for \[1, 0, 2\] of a tensor"),
        (None, TAPS, {"layout": "(b t)chw", "batch_size": lambda a, v: 5}, r"in layout '\(b t\)chw'; found"),
    ],
)
def test_taps_that_do_not_fit_are_refused_at_the_first_forward(way, taps, options, message):
    _, attached = made(way, taps, **options)
    with pytest.raises(UsageError, match=message):
        attached(*batch())
    assert all("forward" not in module.__dict__ for module in attached.model.modules())


@pytest.mark.parametrize("grad", [True, False])
def test_a_model_may_change_its_input_in_place_once(grad):
    model, attached = made(in_place)
    inputs = batch()
    with torch.set_grad_enabled(grad):
        expected = model.eval()(inputs[0].clone(), inputs[1])
        for attempt in range(3):
            given = inputs[0].clone()
            assert torch.equal(attached.eval()(given, inputs[1]), expected), attempt
            assert torch.equal(given, 2 * inputs[0])


def test_a_model_whose_way_depends_on_tapped_values_is_refused():
    calls = []

    def way(m, a, v):
        calls.append(1)
        a = m.audio_net(a).relu()
        return m.head(torch.cat([a, m.visual_net(v) if len(calls) < 3 else a], 1))

    with pytest.raises(ConcordantError, match="the taps of visual were reached at first and not again"):
        made(way)[1](*batch())


class Odd(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.one, self.two, self.out = nn.Identity(), nn.Identity(), out

    def forward(self, x):
        return self.one(self.out(x)), self.two(x)


@pytest.mark.parametrize(
    ("out", "found"),
    [
        (lambda x: {"last": x, "pooled": x}, "dict with the keys 'last', 'pooled'"),
        (lambda x: "text", "found str"),
        (lambda x: [[x]], "found list of 1"),
    ],
)
def test_outputs_that_are_no_tensors_are_refused(out, found):
    attached = attach(Odd(out), {"one": "one", "two": "two"})
    with pytest.raises(UsageError, match=f"the tap 'one' of 'one' must give a tensor; .*{found}"):
        attached(torch.randn(4, 3))


def test_an_element_of_an_output_is_tapped_by_its_name():
    model = Odd(lambda x: {"last": x, "pooled": x + 1})
    attached = attach(model, {"one": "one[pooled]", "two": "two"}, layout="bd").eval()
    x = torch.randn(4, 3)
    out, _ = trained(attached, x)(x)
    assert torch.equal(out["pooled"], attached.calibration.features["one"])
    assert torch.equal(out["last"], x)


def test_a_tap_inside_another_is_refused():
    class Nested(Two):
        def __init__(self):
            super().__init__()
            self.audio_net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4))

    with pytest.raises(UsageError, match=r"the tap 'audio_net\.0' of 'b' lies inside 'audio_net' of 'a'"):
        attach(Nested(), {"a": "audio_net", "b": "audio_net.0"})


class AtFusion(nn.Module):
    def __init__(self, times=1):
        super().__init__()
        self.fuse, self.times = Join(), times

    def forward(self, a, v):
        return sum(self.fuse([a, v], scale=a.mean()) for _ in range(self.times))


class Join(nn.Module):
    def forward(self, features, scale):
        return torch.cat(features, 1) * scale


@pytest.mark.parametrize(
    ("taps", "at", "times", "message"),
    [
        ({"a": (0, 0), "v": (0, 1)}, "fuse", 2, r'at=.fuse. is called twice in one forward.*"fuse#1" or "fuse#2"'),
        ({"a": (0, 0), "v": (0, 1)}, "fuse#3", 2, r"at='fuse#3' did not fire: forward went through without .* 3 times"),
        (
            {"a": (0, 0), "v": (0, 2)},
            "fuse",
            1,
            r"taps\['v'\] is \(0, 2\), which the call of 'fuse' does not have; it "
            "has 0, 'scale'",
        ),
        ({"a": 0, "v": "scale"}, "fuse", 1, r"taps\['a'\] must be a tensor in the call of 'fuse'; found list of 2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(taps, at, times, message):
    with pytest.raises(UsageError, match=message):
        attach(AtFusion(times), taps, at=at, layout=AUTO)(*batch())


def test_one_call_of_a_fusion_module_is_chosen():
    attached = attach(AtFusion(2), {"a": (0, 0), "v": (0, 1)}, at="fuse#2", layout="bd").eval()
    a, v = batch()
    out = trained(attached, a, v)(a, v)
    found = attached.calibration.features
    expected = (torch.cat([a, v], 1) + torch.cat([found["a"], found["v"]], 1)) * a.mean()
    torch.testing.assert_close(out, expected)


def test_a_model_over_several_devices_is_refused():
    model = nn.DataParallel(Two())
    model.device_ids = [0, 1]
    with pytest.raises(UsageError, match=r"attach to model\.module, and wrap what attach returns"):
        attach(model, TAPS)


def test_the_batch_size_of_folded_features_is_told_or_that_of_the_first_input():
    class Frames(Two):
        def forward(self, audio, visual, films):
            return self.head(torch.cat([self.audio_net(audio), self.visual_net(visual)], 1))

    audio, visual = batch(12)
    taps = {"audio": "audio_net", "visual": "visual_net"}
    attached = attach(Frames().eval(), taps, layout="(b t)d", batch_size=lambda a, v, films: films, seed=0)
    attached(audio, visual, 4)
    assert attached.calibration.reliability.shape == (4, 2)
    assert attached.calibration.features["audio"].shape == (4, 3, 4)
    attached = attach(Frames().eval(), taps, layout="(b t)d", seed=0)
    attached(audio, visual, 4)
    assert attached.calibration.reliability.shape == (12, 2)


def test_the_name_attach_stays_the_function_when_submodules_are_imported():
    import concordant

    for name in ("taps", "arguments", "hooks", "passes", "wrapper", "fit"):
        importlib.import_module(f"concordant.attach.{name}")
    assert concordant.attach is attach
    assert sys.modules["concordant.attach"].attach is attach
