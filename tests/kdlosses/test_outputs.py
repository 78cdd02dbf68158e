from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from kdlosses.outputs import SharedClassifier, Subclasses, TwoHeads, like, mix_heads, output_at, with_output

Z1, Z2 = torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind(0)


def softmax(z: torch.Tensor) -> np.ndarray:
    return scipy.special.softmax(z.detach().numpy(), axis=1)


def test_the_mixture_and_its_ends() -> None:
    mixed = mix_heads(Z1, Z2, share=0.3, tau=0.5).exp()
    np.testing.assert_allclose(mixed, 0.3 * softmax(Z1) + 0.7 * softmax(Z2 / 0.5))
    np.testing.assert_allclose(mixed.sum(1), 1)
    torch.testing.assert_close(mix_heads(Z1, Z2, share=1.0), Z1.log_softmax(1))
    torch.testing.assert_close(mix_heads(Z1, Z2, share=0.0, tau=2.0), (Z2 / 2).log_softmax(1))
    with pytest.raises(ValueError, match="share is 0 to 1"):
        TwoHeads(nn.Linear(2, 3), share=2.0)


def test_one_sigmoid_mixes_probabilities() -> None:
    first, second = Z1[:, :1], Z2[:, :1]
    expected = 0.3 * first.sigmoid() + 0.7 * (second / 0.5).sigmoid()
    torch.testing.assert_close(mix_heads(first, second, share=0.3, tau=0.5).sigmoid(), expected)


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(5, 4, 3, padding=1)], ids=["linear", "convolution"])
def test_two_heads_learn_apart_and_predict_together(layer: nn.Linear | nn.Conv2d) -> None:
    output = TwoHeads(layer, share=0.3)
    features = torch.randn(7, 5) if isinstance(layer, nn.Linear) else torch.randn(2, 5, 6, 6)
    assert torch.equal(output.train()(features), layer(features))
    output(features).sum().backward()
    assert output.second.weight.grad is None
    expected = 0.3 * softmax(layer(features)) + 0.7 * softmax(output.second(features) / 0.5)
    np.testing.assert_allclose(output.eval()(features).exp().detach(), expected, rtol=1e-5)
    assert not torch.equal(output.second.weight, layer.weight)


def test_tokens_have_their_classes_last() -> None:
    tokens, both, several = torch.randn(2, 9, 5), TwoHeads(nn.Linear(5, 4)), Subclasses(nn.Linear(5, 4), count=3)
    rows = tokens.flatten(0, 1)
    torch.testing.assert_close(both.eval()(tokens), both(rows).view(2, 9, 4))
    torch.testing.assert_close(several(tokens), several(rows).view(2, 9, 4))


def test_probabilities_of_a_class_are_the_sums_over_its_subclasses() -> None:
    output, features = Subclasses(nn.Conv2d(5, 4, 1), count=3), torch.randn(2, 5, 6, 6)
    each = softmax(output.layer(features)).reshape(2, 4, 3, 6, 6)
    np.testing.assert_allclose(softmax(output(features)), each.sum(2), rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_shared_classifier_is_the_teachers_and_only_the_map_before_it_learns(bias: bool) -> None:
    teacher, output = nn.Conv2d(7, 4, 1, bias=bias), SharedClassifier(nn.Conv2d(5, 4, 3, padding=1), wide=7)
    assert all(each.requires_grad for each in output.parameters())  # before it is shared
    output.share(teacher.weight, teacher.bias)
    features = torch.randn(2, 5, 6, 6)
    torch.testing.assert_close(output(features), teacher(output.layer(features)))
    output(features).sum().backward()
    assert [name for name, each in output.named_parameters() if each.grad is not None] == ["layer.weight", "layer.bias"]
    tokens = SharedClassifier(nn.Linear(5, 4), wide=7)
    tokens.share(teacher.weight, teacher.bias)
    assert tokens(torch.randn(2, 9, 5)).shape == (2, 9, 4)
    with pytest.raises(ValueError, match=r"\(4, 8\), the student's place for it \(4, 7\): .* made with wide=8"):
        tokens.share(torch.zeros(4, 8), None)
    with pytest.raises(ValueError, match="a convolution be 1x1"):
        output.share(torch.zeros(4, 7, 3, 3), None)


def test_a_layer_is_replaced_and_stays_in_the_state() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)).double()
    plain = copy.deepcopy(net)
    with_output(net, "1", dict(type="two_heads", share=1.0))
    image = torch.randn(1, 3, 8, 8).double()
    torch.testing.assert_close(net.eval()(image), plain(image).log_softmax(1))
    other = with_output(plain, "1", "two_heads")
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other.eval()(image), net(image))
    assert output_at(net, "1", "two_heads", "it") is net[1]


def test_what_cannot_be_replaced_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 1, 1))
    with pytest.raises(KeyError, match="no output is called 'two_head'; did you mean 'two_heads'"):
        with_output(net, "1", "two_head")
    with pytest.raises(TypeError, match="output 'two_heads' has no option 'shares'; did you mean 'share'"):
        with_output(net, "1", dict(type="two_heads", shares=0.1))
    with pytest.raises(ValueError, match="'' is a Sequential"):
        with_output(net, "", "two_heads")
    with pytest.raises(ValueError, match="one sigmoid has no subclasses"):
        with_output(net, "1", "subclasses")
    with pytest.raises(ValueError, match="subclasses: count must be at least 1, got 0"):
        with_output(nn.Sequential(nn.Linear(3, 4)), "0", dict(type="subclasses", count=0))
    with pytest.raises(ValueError, match="it needs a student whose last layer '1' is 'subclasses', it is a Conv2d"):
        output_at(net, "1", "subclasses", "it")


def test_a_layer_like_another_draws_anew() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, bias=False)
    made = like(layer, 9)
    assert made(torch.zeros(1, 4, 8, 8)).shape == (1, 9, 3, 3)
    assert made.bias is None
