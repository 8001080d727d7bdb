import torch

from concordant.encoders.vector import VectorEncoder


def test_features_are_the_positive_part_of_a_linear_map():
    encoder = VectorEncoder(inputs=3, size=5).eval()
    x = torch.randn(4, 3)
    weight, bias = encoder.project.weight, encoder.project.bias
    expected = (x @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(encoder(x)[0], expected)
