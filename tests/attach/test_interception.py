"""Calls of submodules answered by somebody else, and modules as they were afterwards."""

import pytest
import torch
from torch import nn

from concordant.attach.interception import calls_of, intercepted


def ten_times(module, run, args, kwargs):
    return 10 * run(*args, **kwargs)


def instead(module, run, args, kwargs):
    return "answered"


class Double(nn.Module):
    def forward(self, x, *, plus=0):
        return 2 * x + plus


def own_forward():
    module = Double()
    module.forward = lambda x, **_: 3 * x
    return module


def hooked():
    module = Double()
    module.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    module.register_forward_hook(lambda _, __, out: out + 5)
    return module


def test_a_call_is_answered_with_its_arguments_and_may_be_run():
    module, seen = Double(), []

    def answer(of, run, args, kwargs):
        seen.append((of, args, kwargs))
        return run(*args, plus=kwargs["plus"] + 100)

    with intercepted([module], answer):
        assert module(1, plus=3) == 205
    assert seen == [(module, (1,), {"plus": 3}), (module, (1,), {"plus": 103})]  # the call, and forward within it
    assert module(1, plus=3) == 5


def test_hooks_belong_to_the_whole_call_or_run_around_forward_s_answer():
    module = hooked()
    assert module(1) == 9
    with intercepted([module], instead):
        assert module(1) == "answered"
        assert module.forward(1) == "answered"
    with intercepted([module], ten_times, whole=False):
        assert module(1) == 45
        assert module.forward(1) == 20


@pytest.mark.parametrize("make", [Double, own_forward, hooked])
@pytest.mark.parametrize("whole", [True, False])
def test_modules_are_what_they_were_whatever_happens(make, whole):
    modules = [make(), make()]
    before, expected = [dict(module.__dict__) for module in modules], [module(1) for module in modules]

    def fail(*_):
        raise KeyError("answer")

    with pytest.raises(KeyError, match="answer"), intercepted([*modules, modules[0]], fail, whole=whole):
        modules[0](1)
    with pytest.raises(AttributeError, match="forward"), intercepted([*modules, None], instead, whole=False):
        pass  # what fails on the way in is undone as well
    assert [module.__dict__ for module in modules] == before
    assert [module(1) for module in modules] == expected


def test_inner_answers_come_before_outer_ones_and_leave_them():
    module = Double()
    with intercepted([module], ten_times, whole=False):
        with intercepted([module], lambda _, run, args, kwargs: run(*args, **kwargs) + 1, whole=False):
            assert module(1) == 21
        assert module(1) == 20
    assert module(1) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_answered_as_a_whole():
    scripted = torch.jit.script(nn.Linear(2, 2))
    x = torch.ones(1, 2)
    expected = scripted(x)
    with intercepted([scripted], ten_times):
        assert torch.equal(scripted(x), 10 * expected)
    assert torch.equal(scripted(x), expected)


def test_a_compiled_module_is_caught_and_what_is_inside_it_is_not():
    shared, compiled = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1))
    compiled._compiled_call_impl = lambda x: "compiled"  # as nn.Module.compile leaves it
    wrapped = nn.ModuleDict({"_orig_mod": nn.Linear(1, 1)})  # as torch.compile does
    plain = nn.Sequential(nn.ReLU(), shared)
    root = nn.ModuleList([shared, compiled, wrapped, plain])
    plain.append(root)  # a circle
    assert calls_of(root) == [shared, compiled, wrapped, plain, plain[0]]
    before = compiled.__dict__["_compiled_call_impl"]
    with intercepted([compiled], instead):
        assert compiled(1) == "answered"
    assert compiled(1) == "compiled"
    assert compiled.__dict__["_compiled_call_impl"] is before
