import torch

from concordant.calibration.indices import index_of


def odd(count):
    return list(range(1, count, 2))


def test_an_index_is_made_once_where_values_are_known():
    first = index_of(odd, 6, device=torch.device("cpu"))
    assert first.tolist() == [1, 3, 5]
    assert index_of(odd, 6, device=torch.device("cpu")) is first


def test_what_inference_made_serves_training():
    with torch.inference_mode():
        index = index_of(odd, 8, device=torch.device("cpu"))
    x = torch.ones(9, requires_grad=True)
    x.index_select(0, index).sum().backward()
    assert x.grad.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_under_a_transform_it_is_made_anew():
    kept = index_of(odd, 4, device=torch.device("cpu"))
    found = []
    torch.vmap(lambda x: found.append(index_of(odd, 4, device=torch.device("cpu"))) or x)(torch.ones(2))
    assert found[0] is not kept
    assert found[0].tolist() == kept.tolist()
