import random

import numpy as np
import torch

from concord.calibration.attaching.draws import OwnStream, devices_of, put_back, remember


def drawn():
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002, S311


def test_states_are_put_back():
    state = remember()
    first = drawn()
    assert drawn() != first
    put_back(state)
    assert drawn() == first


def test_an_own_stream_goes_on_where_it_was_and_leaves_the_global_one_alone():
    stream, other = OwnStream(3), OwnStream(3)
    state = remember()
    expected = drawn()
    put_back(state)
    with stream():
        one = torch.rand(2)
    with stream():
        two = torch.rand(2)
    assert drawn() == expected
    assert not torch.equal(one, two)
    with other():
        assert torch.equal(torch.rand(4), torch.cat([one, two]))


def test_a_module_on_the_cpu_has_no_cuda_devices():
    assert devices_of(torch.nn.Linear(1, 1)) == []
