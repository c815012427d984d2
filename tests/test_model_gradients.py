"""Gradients reach every parameter and every feature, with and without checkpointing."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model_helpers import FULL, MINI, make_network, noisy_clip, raw_conditions


def run(config, checkpointing: bool):
    network = make_network(config).train()
    network.enable_gradient_checkpointing(checkpointing)
    noisy, timestep = noisy_clip(config)
    conditions = network.conditions(**raw_conditions(config))
    features = {f"reference {site}": value for site, value in conditions.reference.items()}
    features |= {f"motion {site}": value for site, value in conditions.motion.items()}
    for value in features.values():
        value.retain_grad()
    output = network(noisy, timestep, conditions, heatmaps=True)
    loss = output.prediction.square().mean()
    for item in output.region_masks + output.heatmaps:
        loss = loss + item.values.square().mean()
    loss.backward()
    return network, features, loss


@pytest.mark.parametrize("config", [MINI, FULL], ids=["trimmed", "full"])
def test_gradients_reach_everything(config):
    network, features, loss = run(config, checkpointing=False)
    for name, value in features.items():
        assert value.grad is not None and value.grad.any(), f"no gradient in {name}"
    silent = [
        name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not silent
    if config is MINI:  # nothing was left out of training: there is no dead weight
        assert all(p.requires_grad for p in network.parameters())

    again, features_again, loss_again = run(config, checkpointing=True)
    assert loss_again.item() == pytest.approx(loss.item(), rel=1e-5)
    for name, value in features.items():
        torch.testing.assert_close(features_again[name].grad, value.grad, rtol=1e-3, atol=1e-6)
    for (name, a), b in zip(network.named_parameters(), again.parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_checkpointing_reaches_motion_modules():
    """Their activations are not kept: less is saved for the backward pass."""

    def saved_numbers(checkpointing: bool) -> int:
        # Linear layers of the motion modules save their inputs; count what autograd holds
        count = 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        network = make_network(dataclasses.replace(MINI, region=dataclasses.replace(MINI.region, stages=()))).train()
        network.enable_gradient_checkpointing(checkpointing)
        noisy, timestep = noisy_clip()
        conditions = network.conditions(**raw_conditions())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(noisy, timestep, conditions)
        return count

    assert saved_numbers(True) < 0.4 * saved_numbers(False)


def test_training_begins_from_the_zeros():
    """At initialisation the zero layers themselves get gradients, so nothing is stuck."""
    network = make_network(randomize=False).train()
    noisy, timestep = noisy_clip()
    network(noisy, timestep, network.conditions(**raw_conditions())).prediction.square().mean().backward()
    zeros = [(name, p) for name, p in network.named_parameters() if not p.any() and name.endswith("weight")]
    assert zeros
    heat = [name for name, p in zeros if p.grad is None or not p.grad.any()]
    assert not heat
