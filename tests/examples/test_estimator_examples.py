import re

import pytest

from tests.commands import example


def run(name, *words):
    return example(name, *words).stdout


@pytest.mark.data
def test_the_scenes_are_told_apart_and_the_spoilt_descriptor_is_distrusted(data_folder):
    out = run("estimator_scene15", "--data", str(data_folder), "--images", "1200")
    assert float(re.search(r"^accuracy: (\S+)", out, re.MULTILINE)[1]) > 0.6  # of fifteen classes
    before, after = re.search(r"^reliability of view1: (\S+), with noise on view1 (\S+)", out, re.MULTILINE).groups()
    assert float(after) < float(before)
    assert "view1: reliability" in out


@pytest.mark.slow
@pytest.mark.data
def test_the_actions_are_learnt_with_sensors_missing(data_folder):
    out = run("estimator_utd_mhad", "--data", str(data_folder), "--steps", "80")
    assert float(re.search(r"^accuracy on unseen subjects: (\S+)", out, re.MULTILINE)[1]) > 0.15  # of 27 classes
    assert "reliability of inertial: " in out
    assert "predicted " in out


@pytest.mark.parametrize("name", ["estimator_scene15", "estimator_utd_mhad"])
def test_without_the_data_an_example_says_so_and_ends_well(name, tmp_path):
    out = run(name, "--data", str(tmp_path))
    assert out.startswith("skipped: ")
    assert str(tmp_path) in out
