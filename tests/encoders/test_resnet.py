import subprocess
import sys
from pathlib import Path

import pytest
import torch

from concordant.encoders.resnet import ResNetEncoder
from concordant.errors import ConcordantError, UsageError

SOURCE = Path(__file__).parents[2] / "src"


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_published_with_stems_of_three_channels_and_of_one():
    assert parameters(ResNetEncoder(inputs=3)) == 11_176_512  # torchvision's resnet18 without its head
    assert parameters(ResNetEncoder(inputs=1)) == 11_176_512 - 2 * 64 * 7 * 7


@pytest.mark.parametrize(("stages", "width", "side"), [(1, 64, 16), (2, 128, 8), (3, 256, 4), (4, 512, 2)])
def test_fewer_stages_give_earlier_maps(stages, width, side):
    encoder = ResNetEncoder(inputs=1, stages=stages).eval()
    features, mask = encoder(torch.randn(2, 1, 64, 64))
    assert features.shape == (2, width, side, side)
    assert encoder.size == width
    assert mask is None


def test_frames_of_a_film_are_encoded_one_by_one_and_their_mask_spread_over_places():
    encoder = ResNetEncoder(inputs=3, frames=True, stages=2).eval()
    x, mask = torch.randn(2, 3, 4, 32, 48), torch.tensor([[True, True, False, False], [True] * 4])
    features, places = encoder(x, mask)
    assert features.shape == (2, 128, 4, 4, 6)
    assert places.shape == (2, 96)
    still = ResNetEncoder(inputs=3, stages=2).eval()
    still.load_state_dict(encoder.state_dict())
    for frame in range(4):
        alone = torch.where(mask[:, frame, None, None, None], still(x[:, :, frame])[0], 0)
        torch.testing.assert_close(features[:, :, frame], alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(places.view(2, 4, 24), mask.unsqueeze(2).expand(-1, -1, 24))


def test_gradients_reach_every_weight():
    encoder = ResNetEncoder(inputs=1).train()
    features, _ = encoder(torch.randn(4, 1, 64, 64))
    features.square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in encoder.parameters())


def test_weights_come_from_the_seed():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(next(ResNetEncoder(inputs=1, stages=1).parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("stages", [0, 5])
def test_other_numbers_of_stages_are_refused(stages):
    with pytest.raises(UsageError, match=f"stages must lie between 1 and 4; found {stages}"):
        ResNetEncoder(inputs=3, stages=stages)


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConcordantError, match="pip install 'concordant"):
        ResNetEncoder(inputs=3)


def test_importing_the_encoders_does_not_import_transformers():
    code = "import sys, concordant.encoders, concordant.fusion; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_what_padding_holds_changes_neither_valid_features_nor_running_statistics():
    x, mask = torch.randn(2, 3, 4, 32, 32), torch.tensor([[True, True, False, False], [True] * 4])
    found = []
    for padding in (0.0, 50.0, float("nan")):
        torch.manual_seed(0)
        encoder = ResNetEncoder(inputs=3, frames=True, stages=2).train()
        features, places = encoder(torch.where(mask[:, None, :, None, None], x, padding), mask)
        found.append((features, encoder.state_dict()))
        assert torch.equal(features[0, :, 2:], torch.zeros_like(features[0, :, 2:]))
        assert places.shape == (2, 4 * 16)
    for features, state in found[1:]:
        assert torch.equal(features, found[0][0])
        assert all(torch.equal(state[key], value) for key, value in found[0][1].items())


def test_padding_and_absence_leave_what_the_valid_frames_alone_give():
    x, mask = torch.randn(3, 1, 2, 32, 32), torch.tensor([[True, False], [True, True], [True, True]])
    present = torch.tensor([True, True, False])
    torch.manual_seed(0)
    encoder = ResNetEncoder(inputs=1, frames=True, stages=1).train()
    still = ResNetEncoder(inputs=1, stages=1).train()
    still.load_state_dict(encoder.state_dict())
    features, _ = encoder(x, mask, present)
    alone, _ = still(torch.stack([x[0, :, 0], x[1, :, 0], x[1, :, 1]]))
    torch.testing.assert_close(torch.stack([features[0, :, 0], features[1, :, 0], features[1, :, 1]]), alone)
    assert not features[2].any()
    for key, value in still.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[key], value)


def test_absent_images_stay_out_of_batch_normalisation():
    x, present = torch.randn(4, 1, 32, 32), torch.tensor([True, False, True, True])
    results = []
    for filling in (0.0, 9.0):
        torch.manual_seed(0)
        encoder = ResNetEncoder(inputs=1, stages=1).train()
        features, mask = encoder(torch.where(present[:, None, None, None], x, filling), None, present)
        assert mask is None
        results.append((features, encoder.state_dict()))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(value, results[1][1][key]) for key, value in results[0][1].items())


def test_a_batch_without_a_single_valid_frame_gives_zeros_and_keeps_the_statistics():
    encoder = ResNetEncoder(inputs=1, frames=True, stages=1).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    features, places = encoder(torch.full((2, 1, 3, 32, 32), float("nan")), torch.zeros(2, 3, dtype=torch.bool))
    assert features.shape[:3] == (2, 64, 3)
    assert not features.any()
    assert not places.any()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
