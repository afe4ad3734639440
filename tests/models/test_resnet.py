"""GroupNorm of the ResNets against torch's own, in both memory layouts."""

import pytest
import torch
from torch import nn

from bench.models.resnet import GROUPS, GroupNorm


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norm_and_its_gradients_equal_torchs(layout: torch.memory_format) -> None:
    ours, theirs = GroupNorm(GROUPS, 16), nn.GroupNorm(GROUPS, 16)
    with torch.no_grad():
        theirs.weight.copy_(torch.rand(16) + 0.5)
        theirs.bias.copy_(torch.randn(16))
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 16, 5, 7).contiguous(memory_format=layout)
    pull = torch.randn_like(images)
    results = []
    for norm in (ours, theirs):
        inputs = images.clone().requires_grad_()
        outputs = norm(inputs)
        results.append((outputs, *torch.autograd.grad(outputs, (inputs, norm.weight, norm.bias), pull)))
    for ours_, theirs_ in zip(*results, strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-5, atol=1e-5)
