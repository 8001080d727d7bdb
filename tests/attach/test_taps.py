import pytest
import torch
from torch import nn

from concordant.attach.taps import Tap, core_of, find_module, read_tap
from concordant.errors import UsageError


@pytest.mark.parametrize(
    ("written", "tap"),
    [
        ("net.audio", ("net.audio", None, ())),
        ("enc#2", ("enc", 2, ())),
        ("lstm[1][0]", ("lstm", None, (1, 0))),
        ("bert#1[last_hidden_state]", ("bert", 1, ("last_hidden_state",))),
        ("layers.0[-1]", ("layers.0", None, (-1,))),
    ],
)
def test_a_tap_is_read_as_written(written, tap):
    assert read_tap(written, "taps['m']") == Tap(written, *tap)


@pytest.mark.parametrize("written", ["", "enc#", "enc#0", "enc[", "enc[]", "a#1#2", None, 1, "[0]"])
def test_what_is_no_tap_is_refused(written):
    with pytest.raises(UsageError, match=r"taps\['m'\] must be the name of a submodule"):
        read_tap(written, "taps['m']")


def test_wrappers_may_be_named_or_not_at_every_depth():
    inner = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    model = nn.ModuleDict({"audio": nn.DataParallel(inner)})
    for name in ("audio.module.0", "audio.0", "module.audio.0", "_orig_mod.audio.module.0"):
        assert find_module(model, name, "tap") is inner[0]
    compiled = torch.compile(nn.DataParallel(inner))
    assert core_of(compiled) is inner
    assert find_module(inner, "module.1", "tap") is inner[1]


@pytest.mark.parametrize("name", ["module", "audio.5", "audoi", "audio.0.weight"])
def test_what_is_not_there_is_refused_with_near_names(name):
    model = nn.ModuleDict({"audio": nn.Sequential(nn.Linear(1, 1)), "video": nn.ReLU()})
    with pytest.raises(UsageError, match=rf"at is '{name}', which the model does not have; near are: .*audio"):
        find_module(model, name, "at")
