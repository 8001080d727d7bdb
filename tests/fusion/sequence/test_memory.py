import torch

from concordant.fusion import FeatureSpec
from concordant.fusion.sequence.memory import MemoryFusion
from concordant.modalities import LAYOUTS

SPECS = {"a": FeatureSpec(3, LAYOUTS["btd"]), "b": FeatureSpec(2, LAYOUTS["btd"])}


def test_it_is_the_loop_of_the_paper():
    torch.manual_seed(0)
    model = MemoryFusion(SPECS, classes=4, hidden=5, memory=6, attention=7).eval()
    lengths = [4, 2]
    features = {"a": torch.randn(2, 4, 3), "b": torch.randn(2, 4, 2)}
    masks = {name: torch.arange(4) < torch.tensor(lengths).unsqueeze(1) for name in features}
    expected = []
    for row in range(2):
        state = {name: (torch.zeros(1, 5), torch.zeros(1, 5)) for name in SPECS}
        memory = torch.zeros(1, 6)
        for step in range(lengths[row]):
            before = torch.cat([state["a"][1], state["b"][1]], 1)
            state = {name: model.cells[name](features[name][row : row + 1, step], state[name]) for name in SPECS}
            both = torch.cat([before, state["a"][1], state["b"][1]], 1)
            scores = model.attend(both)
            attended = torch.exp(scores) / torch.exp(scores).sum() * both
            seen = torch.cat([attended, memory], 1)
            keep, write = (1 / (1 + torch.exp(-gate(seen))) for gate in (model.retain, model.update))
            memory = keep * memory + write * torch.tanh(model.propose(attended))
        expected.append(model.head(torch.cat([state["a"][0], state["b"][0], memory], 1)))
    torch.testing.assert_close(model(features, masks, {}), torch.cat(expected))


def test_only_recurrent_weights_rest_where_there_is_one_step():
    model = MemoryFusion({name: FeatureSpec(3, LAYOUTS["bd"]) for name in "ab"}, classes=2, hidden=4, memory=4)
    model({name: torch.randn(8, 3) for name in "ab"}, {}, {}).square().sum().backward()
    still = {name for name, weight in model.named_parameters() if not weight.grad.any()}
    assert still
    assert all("weight_hh" in name or name.startswith("retain") for name in still)
