"""Frequency distillation against a transform by loops, and what prompts and bands are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from torch import Tensor, nn

from densekd import Distillation
from densekd.losses import FreeKD
from densekd.losses.frequency_prompts import FrequencyPrompts, haar, inverse_haar
from densekd.losses.receptive_tokens import ReceptiveTokens

CONTRACT = LossContract("freekd", no_weight="a coefficient of the transform belongs to several positions")


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def transform(f: np.ndarray, levels: int) -> list[np.ndarray]:
    """Bands `(3, h, w)` of one map, by the inner product with each wavelet."""
    bands = []
    kernels = [np.outer(a, b) / 2 for a, b in (((1, -1), (1, 1)), ((1, 1), (1, -1)), ((1, -1), (1, -1)))]
    for _ in range(levels):
        f = np.pad(f, ((0, f.shape[0] % 2), (0, f.shape[1] % 2)))
        rows, columns = f.shape[0] // 2, f.shape[1] // 2
        band, low = np.zeros((3, rows, columns)), np.zeros((rows, columns))
        for y, x in np.ndindex(rows, columns):
            block = f[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            band[:, y, x] = [(block * kernel).sum() for kernel in kernels]
            low[y, x] = block.sum() / 2
        bands.append(band)
        f = low
    return bands


def prompts(tmp_path: Path, channels: int, levels: int) -> tuple[str, FrequencyPrompts]:
    torch.manual_seed(0)
    made = FrequencyPrompts(channels, tokens=3, levels=levels)
    made.tokens.data.normal_()
    made.save(tmp_path / "prompts.safetensors")
    return str(tmp_path / "prompts.safetensors"), made


def test_formula(tmp_path: Path) -> None:
    path, made = prompts(tmp_path, 4, 2)
    loss = FreeKD(channels=4, mse=0.3, learned=path).double()
    s, t = pair(2, 4, 7, 6)
    tokens, found = made.tokens.detach().double().numpy(), 0.3 * ((s - t) ** 2).mean().item()
    ours, theirs = ([[transform(c, 2) for c in image] for image in x.numpy()] for x in (s, t))
    for j in range(2):
        mine, its = (np.array([[channel[j] for channel in image] for image in x]) for x in (ours, theirs))
        masks = 1 / (1 + np.exp(-np.einsum("tc,nchw->nthw", tokens[1 + j], its.sum(2))))
        found += np.abs(masks[:, :, None, None] * (mine - its)[:, None]).mean()
    np.testing.assert_allclose(loss(s, t).item(), found, rtol=1e-9)


def test_the_transform_is_orthogonal_and_has_an_inverse() -> None:
    f, _ = pair(2, 3, 16, 24)
    low, bands = haar(f, 3)
    energy = low.square().sum() + sum(band.square().sum() for band in bands)
    torch.testing.assert_close(energy, f.square().sum())
    torch.testing.assert_close(inverse_haar(low, bands, (16, 24)), f)
    odd = f[:, :, :13, :11]
    torch.testing.assert_close(inverse_haar(*haar(odd, 3), (13, 11)), odd)


def test_a_shift_of_the_mean_counts_in_the_squared_error_alone() -> None:
    s, t = pair(1, 4, 16, 16)
    alone, both = FreeKD(channels=4, mse=0.0).double(), FreeKD(channels=4, mse=1.0).double()
    torch.testing.assert_close(alone(s + 2.0, t), alone(s, t))
    assert both(s + 2.0, t) > both(s, t) + 1


def test_prompts_say_where_a_student_learns(tmp_path: Path) -> None:
    """The idea: the same error costs more where a prompt sees the teacher's details; without prompts it does not."""
    made = FrequencyPrompts(2, tokens=2, levels=1)
    made.tokens.data.zero_()
    made.tokens.data[1, :, 0] = 8.0  # of the band, on the first channel
    made.tokens.data[1, :, 1] = -8.0
    made.save(tmp_path / "prompts.safetensors")
    prompted = FreeKD(channels=2, mse=0.0, learned=str(tmp_path / "prompts.safetensors")).double()
    blind = FreeKD(channels=2, levels=1, mse=0.0).double()
    t = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    t[:, 0, 0, 0] = t[:, 1, 2, 2] = 1.0  # details of both channels, each in a block of its own
    errors = []
    for y, x in ((0, 0), (2, 2)):
        s = t.clone()
        s[:, :, y, x] += 0.5
        errors.append((prompted(s, t), blind(s, t)))
    assert errors[0][0] > 100 * errors[1][0]
    torch.testing.assert_close(errors[0][1], errors[1][1])


def test_prompts_are_frozen_and_of_the_file(tmp_path: Path) -> None:
    path, made = prompts(tmp_path, 4, 2)
    loss = FreeKD(channels=4, learned=path)
    assert loss.levels == 2
    assert torch.equal(loss.prompts.tokens, made.tokens)
    assert not any(p.requires_grad for p in loss.parameters())


def test_what_is_no_file_of_prompts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--frequency"):
        FreeKD(channels=4, learned=str(tmp_path / "none.safetensors"))
    path, _ = prompts(tmp_path, 4, 2)
    with pytest.raises(ValueError, match=r"prompts of 4 channels cannot attend to a map of 3"):
        FreeKD(channels=3, learned=path)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"x")
    with pytest.raises(ValueError, match="is damaged"):
        FrequencyPrompts.load(bad)
    from safetensors.torch import save_file

    save_file({"tokens": torch.zeros(2, 3)}, bad)
    with pytest.raises(ValueError, match="holds no frequency prompts; its keys are tokens"):
        FrequencyPrompts.load(bad)


def test_options_for_other_channels_are_refused_before_training(tmp_path: Path) -> None:
    """Files of prompts and of tokens, and groups, name the channels that they are for."""
    path, _ = prompts(tmp_path, 4, 2)
    tokens = tmp_path / "tokens.safetensors"
    ReceptiveTokens(4).save(tokens)
    for loss, message in (
        (dict(type="freekd", learned=path), "prompts of 4 channels cannot attend to a map of 6"),
        (dict(type="maskd", learned=str(tokens)), "tokens of 4 channels cannot attend to a map of 6"),
        (dict(type="af_dcd", groups=4), "af_dcd: 6 channels cannot be split into 4 equal groups"),
    ):
        entry, image = {"loss": loss, "student": "0"}, torch.zeros(1, 3, 8, 8)
        with pytest.raises(ValueError, match=message):
            Distillation(nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Conv2d(3, 6, 1)), [entry], example=image)
        entry["loss"] = {**loss, "learned": None} if "learned" in loss else {**loss, "groups": 3}
        Distillation(nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Conv2d(3, 6, 1)), [entry], example=image)
