import numpy as np
import pytest
import torch

from concordant.fusion.attention import AttentionBlock, known_steps, valid_steps


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def test_attention_is_the_formula_with_one_zero_key():
    torch.manual_seed(0)
    block = AttentionBlock(6, 2, cross=True, dropout=0.1).double().eval()
    x, memory = torch.randn(1, 3, 6, dtype=torch.float64), torch.randn(1, 4, 6, dtype=torch.float64)
    ignored = torch.tensor([[False, True, False, False]])
    weight = block.attend.in_proj_weight.detach().numpy()
    bias = block.attend.in_proj_bias.detach().numpy() + 0.0
    queries = block.normalise(x)[0].detach().numpy() @ weight[:6].T + bias[:6]
    seen = block.normalise_memory(memory)[0].detach().numpy()
    keys, values = (seen @ weight[a:b].T + bias[a:b] for a, b in ((6, 12), (12, 18)))
    found = np.zeros((3, 6))
    for head in (slice(0, 3), slice(3, 6)):
        for q in range(3):
            scores = [queries[q, head] @ keys[k, head] / np.sqrt(3) for k in range(4) if k != 1]
            weights = softmax(np.array([*scores, 0.0]))  # the zero key
            kept = [values[k, head] for k in range(4) if k != 1]
            found[q, head] = sum(w * v for w, v in zip(weights, kept, strict=False))
    found = found @ block.attend.out_proj.weight.detach().numpy().T + block.attend.out_proj.bias.detach().numpy()
    middle = x + torch.from_numpy(found)
    expected = middle + block.forward_layers(block.forward_normalise(middle))
    torch.testing.assert_close(block(x, memory, ignored), expected)


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_rows_with_nothing_to_look_at_are_finite_forwards_and_backwards(cross, training):
    block = AttentionBlock(8, 2, cross=cross).train(training)
    x = torch.randn(2, 3, 8, requires_grad=True)
    memory = torch.randn(2, 5, 8) if cross else None
    ignored = torch.zeros(2, 5 if cross else 3, dtype=torch.bool)
    ignored[0] = True
    out = block(x, memory, ignored)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in block.parameters())


def test_what_is_ignored_has_no_influence():
    block = AttentionBlock(8, 2, cross=True).eval()
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    ignored = torch.tensor([[False, True, False, True, True]] * 2)
    other = torch.where(ignored.unsqueeze(2), 1e3, memory)
    torch.testing.assert_close(block(x, memory, ignored), block(x, other, ignored))


def test_steps_are_valid_where_mask_and_presence_say_so():
    steps = torch.full((2, 3, 1), float("nan"))
    mask = torch.tensor([[True, False, True], [True, True, True]])
    here = torch.tensor([True, False])
    assert valid_steps(steps, None, None).all()
    valid = valid_steps(steps, mask, here)
    assert torch.equal(valid, torch.tensor([[True, False, True], [False] * 3]))
    assert torch.equal(known_steps(steps, valid).isnan(), valid.unsqueeze(2))
