import pytest
import torch
from torch import nn

from concordant.attach.arguments import Arguments, check_addresses, parameters_of
from concordant.errors import UsageError

X, Y = torch.zeros(1), torch.ones(1)


class Joins(nn.Module):
    def forward(self, audio, visual=None, *rest, flag=False):
        return audio


@pytest.mark.parametrize(
    ("args", "kwargs", "address", "path"),
    [
        ((X, Y), {}, 1, (0, 1)),
        ((X, Y), {}, "visual", (0, 1)),
        ((X,), {"visual": Y}, 1, (1, "visual")),
        ((X,), {"visual": Y}, "visual", (1, "visual")),
        (([X, Y],), {}, (0, 1), (0, 0, 1)),
        (({"a": X, "text": Y},), {}, "text", (0, 0, "text")),
        ((X,), {"flag": {"deep": [Y]}}, ("flag", "deep", 0), (1, "flag", "deep", 0)),
    ],
)
def test_an_argument_is_found_however_it_is_passed(args, kwargs, address, path):
    call = Arguments(args, kwargs, parameters_of(Joins()))
    assert call.find(address, "m", "'fuse'") == (Y, path)
    new = torch.full((1,), 7.0)
    assert call.replace(path, new).find(address, "m", "'fuse'")[0] is new
    assert call.find(address, "m", "'fuse'")[0] is Y


@pytest.mark.parametrize("address", [2, "text", (0, 1)])
def test_an_argument_that_is_not_there_is_refused(address):
    with pytest.raises(UsageError, match=r"which the call of 'fuse' does not have; it has 0, 'visual'"):
        Arguments((X,), {"visual": Y}, parameters_of(Joins())).find(address, "m", "'fuse'")


def test_parameters_are_those_by_position():
    assert parameters_of(Joins()) == ("audio", "visual")


@pytest.mark.parametrize("address", [True, -1, (), ("a", None), 1.5])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match=r"with `at`, taps\['m'\] must be a position"):
        check_addresses({"m": address})
