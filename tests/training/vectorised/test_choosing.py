from dataclasses import replace

import pytest
import torch

from concordant.training.config import Variant
from concordant.training.vectorised import choosing
from concordant.training.vectorised.choosing import choose, pays

CONTEXT = Variant("context", True)


def test_small_models_are_trained_together_where_it_pays(small):
    config = small.config("lf-dnn", steps=700)
    assert choose(config, CONTEXT, small.task(0), seeds=10).together
    few = choose(small.config("lf-dnn", steps=5), CONTEXT, small.task(0), seeds=10)
    assert (few.together, few.possible) == (False, True)
    assert few.reason == "with 5 steps, preparing a pass takes longer than it saves"
    assert choose(small.config("lf-dnn", steps=5), CONTEXT, small.task(0), seeds=10, wish="on").together


def test_large_operators_are_not(small, monkeypatch):
    monkeypatch.setitem(choosing.MOST_WORK, "cpu", 10)
    found = choose(small.config("lf-dnn", steps=700), CONTEXT, small.task(0), seeds=10)
    assert (found.together, found.possible) == (False, True)
    assert found.reason.startswith("operators are large enough by themselves (0.0 million floating point operations")
    assert choose(small.config("lf-dnn"), CONTEXT, small.task(0), seeds=10, wish="on").together


def test_what_cannot_be_says_why(small):
    def reason(fusion="lf-dnn", variant=CONTEXT, task=None, **options):
        found = choose(small.config(fusion), variant, small.task(0) if task is None else task, **options)
        assert not found.together
        assert not found.possible
        return found.reason

    assert reason(seeds=1) == "there is one seed to train"
    assert reason(seeds=3, apart="training is observed (--dynamics)") == "training is observed (--dynamics)"
    elsewhere = "training is on mps, and random numbers are drawn seed by seed on cpu and cuda alone"
    assert reason(seeds=3, device="mps") == elsewhere
    assert reason("ef-lstm", seeds=3, wish="on") == "ef-lstm has recurrent layers"
    assert reason("mfn", seeds=3) == "mfn has recurrent layers"
    on_disk = replace(small.task(0), train=object())
    assert reason(task=on_disk, seeds=3) == "the data are not in memory"
    method = small.config("lf-dnn").model_copy(update={"method": "ogm-ge"})
    assert "ogm-ge needs a loop of its own" in choose(method, CONTEXT, small.task(0), seeds=3).reason
    assert choose(small.config("lf-dnn"), CONTEXT, small.task(0), seeds=3, wish="off").reason == "--vectorise off"


def test_operators_without_a_rule_and_draws_out_of_reach_are_found_out(small, monkeypatch):
    def with_layer(forward):
        build = choosing.build_model

        def changed(*args):
            model = build(*args)
            join = model.fusion.join
            model.fusion.join = lambda features, masks, present: forward(join(features, masks, present))
            return model

        monkeypatch.setattr(choosing, "build_model", changed)
        found = choose(small.config("lf-dnn"), CONTEXT, small.task(0), seeds=3, wish="on")
        monkeypatch.setattr(choosing, "build_model", build)
        return found.reason

    assert with_layer(lambda x: x * (2 if x.sum() > 0 else 1)).startswith("PyTorch's vmap cannot follow it (")
    hidden = with_layer(lambda x: x + torch.empty_like(x).normal_())
    assert hidden == "it draws random numbers in a way that cannot be repeated seed by seed"


def test_a_pass_pays_with_many_seeds_and_many_steps():
    assert pays(10, 300)
    assert pays(2, 1000)
    assert not pays(1, 1000)
    assert not pays(10, 5)


@pytest.mark.parametrize("layer", [torch.nn.LSTM(2, 2), torch.nn.GRUCell(2, 2)])
def test_recurrent_layers_are_known(layer):
    assert isinstance(layer, choosing._RECURRENT)
