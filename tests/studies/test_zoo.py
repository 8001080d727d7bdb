import pytest

from studies import zoo


@pytest.mark.slow
def test_a_class_is_built_tiny_from_its_default_configuration_and_passes_every_step():
    assert {"CLIPModel", "Qwen3VLModel", "WhisperModel"} <= set(zoo.classes())
    done = zoo.tried("WhisperModel")
    assert all(done[step] for step in zoo.STEPS), done
    assert set(done["taps"]) == {"audio", "text"}


def test_sizes_and_tokens_of_a_configuration_are_made_small():
    held = {
        "text_config": {"hidden_size": 512, "vocab_size": 30000, "scale": 0.5},
        "image_token_id": 3000,
        "depths": [2, 6],
    }
    wanted = {
        "text_config": {"hidden_size": 32, "vocab_size": 99, "scale": 0.5},
        "image_token_id": 95,
        "depths": [2, 2],
    }
    assert zoo.shrunk(held) == wanted
