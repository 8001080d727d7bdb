"""Processes that share batches; what they tell each other is tested in experiment/test_ranked.py, which starts two."""

import pytest
import torch

from concordant.calibration import Perturbation, with_copies
from concordant.calibration.across import copies_across
from concordant.calibration.ranks import Ranks, connected
from concordant.errors import UsageError
from concordant.modalities import gather


def test_ranks_need_processes_that_know_of_each_other():
    with pytest.raises(UsageError, match=r"Ranks needs processes that know of each other; call torch.distributed.init"):
        Ranks()


def test_one_process_has_no_ranks():
    with connected(1) as ranks:
        assert ranks is None


def test_the_copies_of_one_process_are_those_of_its_batch():
    features = {"a": torch.randn(6, 3), "b": torch.randn(6, 4, 2)}
    batch = gather(features, sizes={"a": 3, "b": 2}, layouts={"a": "bd", "b": "btd"})
    found, expected = (
        make(batch, Perturbation(), *more, generator=torch.Generator().manual_seed(0))
        for make, more in ((copies_across, (None,)), (with_copies, ()))
    )
    assert all(torch.equal(found.batch.features[name], x) for name, x in expected.batch.features.items())
    assert torch.equal(found.perturbed, expected.perturbed)
