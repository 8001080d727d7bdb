import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.recurrent import EarlyLSTM, LateLSTM
from concordant.modalities import LAYOUTS

SPECS = {"a": FeatureSpec(3, LAYOUTS["btd"]), "b": FeatureSpec(2, LAYOUTS["btd"])}


def batch():
    lengths = {"a": [5, 3, 0], "b": [5, 4, 2]}
    features = {"a": torch.randn(3, 5, 3), "b": torch.randn(3, 5, 2)}
    masks = {name: torch.arange(5) < torch.tensor(one).unsqueeze(1) for name, one in lengths.items()}
    return features, masks, lengths


def test_the_early_one_reads_joined_steps_one_after_the_other():
    torch.manual_seed(0)
    model = EarlyLSTM(SPECS, classes=4, hidden=6, layers=1).eval()
    features, masks, lengths = batch()
    cell = torch.nn.LSTMCell(5, 6)
    names = {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0", "bias_ih": "bias_ih_l0", "bias_hh": "bias_hh_l0"}
    cell.load_state_dict({one: model.lstm.state_dict()[other] for one, other in names.items()})
    expected = []
    for row in range(3):
        state = torch.zeros(1, 6), torch.zeros(1, 6)
        for step in range(max(lengths["a"][row], lengths["b"][row])):
            parts = [x[row, step] * (step < lengths[name][row]) for name, x in features.items()]
            state = cell(torch.cat(parts).unsqueeze(0), state)
        expected.append(model.head(model.hidden(state[0])))
    torch.testing.assert_close(model(features, masks, {}), torch.cat(expected))


def test_the_late_one_meets_as_last_states():
    torch.manual_seed(0)
    model = LateLSTM(SPECS, classes=4, hidden=6).eval()
    features, masks, lengths = batch()
    assert {name: (spec.size, spec.layout.name) for name, spec in model.meeting.items()} == {
        "a": (6, "bd"),
        "b": (6, "bd"),
    }
    vectors, left = model.encode(features, masks, {})
    assert left == {}
    for name, x in features.items():
        for row in range(3):
            if lengths[name][row] == 0:
                assert not vectors[name][row].any()
                continue
            _, (h, _) = model.lstms[name](x[row : row + 1, : lengths[name][row]])
            torch.testing.assert_close(vectors[name][row], h[0, 0])
    joined = torch.cat([vectors["a"], vectors["b"]], 1)
    torch.testing.assert_close(model(features, masks, {}), model.head(model.hidden(joined)))


def test_a_batch_with_padding_equals_its_samples_alone():
    for model in (EarlyLSTM(SPECS, classes=4, hidden=6).eval(), LateLSTM(SPECS, classes=4, hidden=6).eval()):
        features, masks, lengths = batch()
        lengths["b"] = lengths["a"] = [5, 3, 2]
        masks = {name: torch.arange(5) < torch.tensor([5, 3, 2]).unsqueeze(1) for name in masks}
        whole = model(features, masks, {})
        for row in range(3):
            alone = {name: x[row : row + 1, : lengths[name][row]] for name, x in features.items()}
            torch.testing.assert_close(model(alone, {}, {})[0], whole[row])
