from __future__ import annotations

import numpy as np
import pytest
import torch

import kdlosses


@pytest.mark.parametrize("first", [0, 1])
def test_the_factor_is_that_of_the_formula(first: int) -> None:
    s, t = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    loss = kdlosses.build(dict(type="warmup", loss=dict(type="kl", tau=4.0), epochs=20, first=first))
    values = np.array([loss(s, t, epoch=epoch).item() for epoch in range(30)])
    expected = np.minimum((np.arange(30) + first) / 20, 1) * kdlosses.kl(s, t, tau=4.0).item()
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert (values[20 - first :] == kdlosses.kl(s, t, tau=4.0).item()).all()


def test_no_teacher_in_an_epoch_of_factor_zero() -> None:
    assert not kdlosses.build("warmup").active(epoch=0)
    assert kdlosses.build("warmup").active(epoch=1)
    assert kdlosses.build(dict(type="warmup", first=1)).active(epoch=0)
    inside = kdlosses.build(dict(type="warmup", loss=dict(type="until", stop=0.5)))
    assert "progress" in inside.requires
    assert not inside.active(epoch=5, progress=0.6)


def test_it_is_compiled_for_all_epochs() -> None:
    torch._dynamo.reset()
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    loss = kdlosses.build(dict(type="warmup", epochs=7))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for epoch in range(20):
            torch.testing.assert_close(compiled(s, t, epoch=epoch), loss(s, t, epoch=epoch))


def test_what_makes_no_warmup_is_named() -> None:
    with pytest.raises(ValueError, match="epochs must be positive and first at least 0, got 0 and 0"):
        kdlosses.build(dict(type="warmup", epochs=0))
    with pytest.raises(ValueError, match="first must be at least 0, got -1"):
        kdlosses.build(dict(type="warmup", first=-1))
