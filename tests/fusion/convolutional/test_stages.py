import pytest
import torch

from concordant.errors import UsageError
from concordant.fusion import FeatureSpec
from concordant.fusion.convolutional.mmtm import TransferFusion
from concordant.fusion.convolutional.stages import Stage
from concordant.modalities import LAYOUTS

MAP = FeatureSpec(4, LAYOUTS["bchw"])


def test_frames_of_a_film_go_through_one_by_one():
    stage = Stage(FeatureSpec(4, LAYOUTS["bcthw"]), 8, blocks="small")
    x = torch.randn(2, 4, 3, 5, 6)
    out, valid = stage(x, None)
    assert valid is None
    for frame in range(3):
        torch.testing.assert_close(out[:, :, frame], stage.layers(x[:, :, frame]))


def test_steps_go_through_a_linear_layer():
    stage = Stage(FeatureSpec(4, LAYOUTS["btd"]), 8, blocks="resnet")
    x = torch.randn(2, 5, 4)
    out, _ = stage(x, None)
    torch.testing.assert_close(out, stage.layers(x))
    assert stage.spec.size == 8


@pytest.mark.parametrize("blocks", ["small", "resnet"])
def test_invalid_places_have_no_influence(blocks):
    stage = Stage(MAP, 8, blocks=blocks).eval()
    x, valid = torch.randn(2, 4, 6, 6), torch.zeros(2, 6, 6, dtype=torch.bool)
    valid[:, :3, :3] = True
    spoilt = torch.where(valid.unsqueeze(1), x, torch.nan)
    out, left = stage(spoilt, valid.flatten(1))
    torch.testing.assert_close(out, stage(torch.where(valid.unsqueeze(1), x, 0), None)[0])
    side = out.shape[-1]
    expected = torch.zeros(2, side, side, dtype=torch.bool)
    expected[:, : side // 2 + (side % 2), : side // 2 + (side % 2)] = True
    assert torch.equal(left, expected.flatten(1))


def test_a_resnet_stage_halves_the_map_and_has_the_published_parameters():
    stage = Stage(FeatureSpec(64, LAYOUTS["bchw"]), 128, blocks="resnet")
    out, _ = stage(torch.randn(2, 64, 8, 6), None)
    assert out.shape == (2, 128, 4, 3)
    assert sum(p.numel() for p in stage.parameters()) == 525_568  # layer2 of torchvision's ResNet-18


def test_absent_modalities_have_no_valid_position():
    specs = {"a": MAP, "b": FeatureSpec(3, LAYOUTS["bd"])}
    features = {"a": torch.randn(2, 4, 2, 2), "b": torch.randn(2, 3)}
    here = torch.tensor([True, False])
    state = TransferFusion(specs, classes=2, widths=(4,), blocks="small").enter(features, {}, {"a": here})
    assert state["a"][1].tolist() == [[True] * 4, [False] * 4]
    assert state["b"][1] is None
    assert state["b"][0].shape == (2, 1, 3)


def test_widths_double_as_in_a_resnet_unless_given():
    specs = {"a": MAP, "b": FeatureSpec(6, LAYOUTS["bd"])}
    assert TransferFusion(specs, classes=2, blocks="small").widths == (12, 24)
    assert TransferFusion(specs, classes=2, blocks="small", widths=[5]).widths == (5,)
    for wrong in ((), (4, 0)):
        with pytest.raises(UsageError, match="widths must be one or more positive integers; found"):
            TransferFusion(specs, classes=2, widths=wrong)


def test_other_blocks_are_refused():
    with pytest.raises(UsageError, match="blocks must be one of resnet, small; found 'vgg'"):
        Stage(MAP, 8, blocks="vgg")


def test_frames_without_a_valid_place_stay_out_of_batch_normalisation():
    spec = FeatureSpec(4, LAYOUTS["bcthw"])
    x = torch.randn(2, 4, 3, 6, 6)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    places = valid[:, :, None, None].expand(-1, -1, 6, 6).flatten(1)
    torch.manual_seed(0)
    stage = Stage(spec, 8, blocks="resnet").train()
    still = Stage(MAP, 8, blocks="resnet").train()
    still.load_state_dict(stage.state_dict())
    out, left = stage(x, places)
    alone, _ = still(torch.stack([x[0, :, 0], x[0, :, 1], x[1, :, 0]]), None)
    torch.testing.assert_close(torch.stack([out[0, :, 0], out[0, :, 1], out[1, :, 0]]), alone)
    assert left.reshape(2, 3, -1).all(2).tolist() == valid.tolist()
    for key, value in still.state_dict().items():
        torch.testing.assert_close(stage.state_dict()[key], value)
