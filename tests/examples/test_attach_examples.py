import re

import pytest

from tests.commands import example


def run(name, *words):
    return example(name, *words).stdout


def test_the_clip_example_distrusts_pictures_of_noise():
    pytest.importorskip("transformers")
    out = run("attach_clip")
    assert "untrained, the output is CLIP's own: True" in out
    assert "detached, it is the model that came in: True" in out
    clean, spoilt = re.findall(r"of image (\S+)", out)
    assert float(spoilt) < float(clean)


def test_the_audio_visual_example_helps_a_trained_model_and_leaves_it_as_it_is(tmp_path):
    out = run("attach_audio_visual", "--steps", "20", "--out", str(tmp_path))
    (before, after), *faults = re.findall(r"accuracy (\S+), with the plug-in (\S+);", out)
    assert float(after) >= float(before) - 0.02
    assert len(faults) == 4
    assert all(float(better) >= float(worse) for worse, better in faults)
    assert (tmp_path / "plugin.png").is_file()
    assert "the trained weights are untouched: True" in out
    assert "the old checkpoint loads: <All keys matched successfully>" in out


@pytest.mark.parametrize(("name", "needs"), [("lightning_trainer", "lightning"), ("huggingface_trainer", "accelerate")])
def test_trainers_of_other_libraries_train_a_calibrator_that_is_attached_or_a_layer(name, needs):
    pytest.importorskip(needs)
    out = run(name)
    assert all(float(found) > 0.85 for found in re.findall(r"accuracy (\S+)", out))
    found = [float(one) for one in re.findall(r"reliability of upper (\S+),", out)]
    for clean, spoilt in (found[:2], found[2:]):
        assert spoilt < clean
    if needs == "lightning":
        assert "detached, it is the model that came in: True" in out
        assert "the checkpoint holds the layer: True" in out


@pytest.mark.process
@pytest.mark.parametrize(("name", "needs"), [("skorch_layer", "skorch"), ("ddp_layer", "torch")])
def test_a_layer_is_trained_by_skorch_and_by_two_processes(name, needs):
    pytest.importorskip(needs, reason=f"{needs} is not installed: pip install {needs}")
    out = run(name)
    assert float(re.search(r"accuracy (\S+)", out)[1]) > 0.85
    clean, spoilt = (float(found) for found in re.findall(r"reliability of upper (\S+),", out))
    assert spoilt < clean


def test_the_crossmodal_example_distrusts_a_noisy_text():
    out = run("attach_crossmodal")
    assert "untrained, the output is the model's own: True" in out
    clean, spoilt = re.findall(r"of text (\S+),", out)
    assert float(spoilt) < float(clean) - 0.2


@pytest.mark.data
def test_the_transcripts_example_goes_from_raw_text_to_the_modality_that_is_noise(data_folder):
    pytest.importorskip("wordllama", reason="wordllama is not installed: pip install wordllama")
    out = run("attach_transcripts", "--data", str(data_folder), "--folds", "1")
    table = {name: (float(one), float(two)) for name, one, two in re.findall(r"(.+): (0\.\d+), (0\.\d+)", out)}
    assert table["clean"][1] >= table["clean"][0] - 0.08  # the bound on harm
    assert table["noise as voice"][1] > table["noise as voice"][0]
    text, audio, video = re.search(r"text (\S+), audio (\S+), video (\S+)", out).groups()
    assert float(audio) < min(float(text), float(video))
