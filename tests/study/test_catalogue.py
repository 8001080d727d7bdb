import json

import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FUSIONS, FeatureSpec
from concordant.modalities import LAYOUTS
from concordant.study.catalogue import build_catalogue, catalogue, fusion_parameters, registries


def test_every_entry_of_every_registry_is_there_once():
    entries = catalogue()
    found = [(entry["kind"] + "s", entry["name"]) for entry in entries]
    assert found == [(kind, name) for kind, registry in registries().items() for name in registry]
    assert all(entry["summary"] for entry in entries)


def test_the_written_catalogue_is_up_to_date_and_counting_draws_nothing():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert catalogue() == json.loads(json.dumps(build_catalogue())), "run: python -m concordant.study.catalogue"
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["lf-dnn", "lmf", "mult", "concat", "mmtm", "misa"])
def test_parameters_are_those_of_a_fusion_that_holds_values(name):
    entry = FUSIONS[name]
    layout = LAYOUTS["bchw" if entry.setting == "convolutional" else "btd"]
    specs = {key: FeatureSpec(64, layout) for key in "abc"}
    for options in ({}, entry.small):
        built = entry.build(specs, classes=10, **options)
        assert fusion_parameters(name, options) == sum(weight.numel() for weight in built.parameters())


def test_fusions_and_calibrators_say_all_there_is_to_say():
    for entry in catalogue("fusions"):
        assert entry["parameters"]["default"] > 0
        assert entry["parameters"]["small"] > 0
        assert entry["paper"]
        assert entry["calibrated_at"]
    calibrators = {entry["name"]: entry for entry in catalogue("calibrators")}
    assert calibrators["none"]["parameters"]["default"] == 0
    assert calibrators["none"]["least_modalities"] == 1
    assert calibrators["context"]["least_modalities"] == 2
    assert calibrators["evidential"]["setting"] == "late fusion"
    tensor = next(entry for entry in catalogue("fusions") if entry["name"] == "tfn")
    assert tensor["most_modalities"] == 17


def test_an_unknown_kind_lists_the_choices():
    with pytest.raises(
        UsageError, match="unknown kind 'heads'; choose from: benchmarks, fusions, calibrators, methods, corruptions"
    ):
        catalogue("heads")
