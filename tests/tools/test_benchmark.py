from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import benchmark
import benchmark_auto
import benchmark_dense
import benchmark_seams
import pytest
import torch
from benchmark_losses import case, measure, measured, over_pairs
from contract.entry import home_of
from measure import Left, Ratio, median_ratio, peak_bytes
from naive import NAIVE
from transcriptions import TRANSCRIPTIONS, plain_forms

import kdlosses
from kdlosses.auto_weight import AutoWeight, Pull
from kdlosses.diagnosis import Diagnosis


def test_a_ratio_of_times() -> None:
    now, slowness = 0.0, iter([1, 1, 1, 3, 3, 2, 2, 9, 1, 1, 1, 1, 1, 1])  # of the machine, step by step

    def step(seconds: float) -> None:
        nonlocal now
        now += seconds * next(slowness)

    ratio, slow, fast = median_ratio(lambda: step(2.0), lambda: step(1.0), rounds=5, clock=lambda: now)
    assert (ratio, slow, fast) == (2.0, 2.0, 1.0)


def test_peak_memory_is_what_lives_at_once() -> None:
    def at_once() -> None:
        kept = [torch.ones(1 << 18) for _ in range(4)]
        assert len(kept) == 4

    def in_turn() -> None:
        for _ in range(4):
            torch.ones(1 << 18)

    assert 4 << 20 <= peak_bytes(at_once) < 5 << 20
    assert 1 << 20 <= peak_bytes(in_turn) < 3 << 20


def test_the_time_that_is_left_is_that_of_the_parts_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 30.0, 90.0, 120.0, 120.0])
    left = Left(4, clock=lambda: next(now))
    for parts in (1, 2, 1, 1):
        left.tell(parts)
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [
        "1 of 4 measured, about 90 seconds left",
        "3 of 4 measured, about 30 seconds left",
        "4 of 4 measured, about 0 seconds left",
        "4 of 4 measured, about 0 seconds left",
    ]


def test_a_row_is_printed_when_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []

    def rows() -> Iterator[Ratio]:
        for name in ("first", "second"):
            yield Ratio(name, 0.5, 1.0, "half")
            printed.append(capsys.readouterr().out)

    monkeypatch.setitem(benchmark.BENCHMARKS, "imports", rows)
    monkeypatch.setattr("sys.argv", ["benchmark.py", "imports"])
    assert benchmark.main() == 0
    assert [line.split()[0] for text in printed for line in text.splitlines()[-1:]] == ["first", "second"]


def test_the_cost_of_measuring_a_weight_is_that_of_a_whole_training() -> None:
    """A training of a thousand steps, step by step, with those that are measured and looked at where they are."""
    alone, measured, looked = 0.1, 0.15, 0.13
    auto = AutoWeight(steps=50)
    diagnosis = Diagnosis(every=25)
    total = 0.0
    for _ in range(1000):
        look = diagnosis.due()
        total += measured if auto.measuring else looked if look else alone
        if auto.measuring:
            auto.measure(Pull(*torch.ones(3)))
    share, low, high = benchmark_auto.cost([(alone, measured, looked)] * 3)
    assert share == low == high == pytest.approx(total / (1000 * alone) - 1)


def test_the_cost_of_a_measured_weight_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = benchmark_auto.measure(["bpkd"], rounds=3, side=64)
    assert row.name == "auto / 2%, bpkd, PSPNet R50 to R18"
    assert -1 < row.value < 3
    assert "a measured step" in row.detail
    assert "1 of 1 measured" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="there is no method 'bpdk' to measure; did you mean 'bpkd'"):
        next(benchmark_auto.measure(["bpdk"]))


def test_both_sides_of_each_seam_can_be_stepped() -> None:
    names = []
    for name, one, other, _ in itertools.chain(benchmark_seams.on_nodes(), benchmark_seams.on_pixels()):
        names.append(name)
        one(), other()
    names += [name for name, *_ in benchmark_seams.of_policies()]
    for name, one, other, _ in benchmark_seams.of_masks():
        names.append(name)
        one(), other()
    assert len(names) == len(set(names)) == 5 + len(benchmark_seams.POLICIES)


def test_a_goal_is_missed_by_what_two_digits_show() -> None:
    assert Ratio("", 1.06, 1.05, "").missed
    assert not Ratio("", 1.0501, 1.05, "").missed


@pytest.mark.parametrize("key", measured())
def test_a_loss_and_its_formula_typed_straight_down_are_the_same(key: str) -> None:
    """Value and gradient in float64, from two pens: the loss, and its plain form."""
    assert key in plain_forms(), (
        f"write {key} in plain torch into {home_of(kdlosses.LOSSES[key])}: plain=... of its entry"
    )
    maps = [] if over_pairs(key) or "edge_index" in kdlosses.build(_spec(key)).needs else [(2, 20, 12, 16)]
    for shape in [(300, 20), *maps]:
        assert case(key, shape).difference() < 1e-6


def _spec(key: str) -> kdlosses.Loss:
    return case(key, (300, 20)).loss


def test_no_transcription_is_of_a_loss_that_is_gone() -> None:
    assert set(TRANSCRIPTIONS) <= set(kdlosses.LOSSES)


def test_time_and_memory_of_one_loss(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark_losses.LOGITS", {"nodes": (2000, 10), "maps": (1, 10, 40, 50)})
    found = {ratio.name: ratio for ratio in measure(["tvd"], rounds=3, compiled=False)}
    assert {
        f"{what}, tvd on {where}" for what in ("time", "memory", "difference") for where in ("nodes", "maps")
    } == set(found)
    assert 0.5 < found["memory, tvd on nodes"].value < 1.01  # the same tensors, the same size
    assert "tvd" in capsys.readouterr().out


def test_a_typo_in_only_names_the_nearest() -> None:
    with pytest.raises(SystemExit, match="did you mean 'dkd'"):
        measure(["dkdd"])


def test_an_unknown_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark.py", "loses", "--out", str(tmp_path / "x.json")])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "losses" in capsys.readouterr().err


def test_a_step_of_a_method_on_the_pair_that_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {
        "cwd": "PSPNet R50 to R18",
        "transkd": "SegFormer B2 to B0",
        "unidistill": "LiDAR to camera of the world",
    }
    found = {ratio.name: ratio for ratio in benchmark_dense.measure([*pairs], rounds=1, side=64)}
    assert set(found) == {f"step {what}, {name}, {pair}" for name, pair in pairs.items() for what in ("time", "memory")}
    for ratio in found.values():
        assert 0.3 < ratio.value < 3
    assert found["step memory, cwd, PSPNet R50 to R18"].bound == 1.10
    with pytest.raises(SystemExit, match="there is no method 'cdw' to measure; did you mean 'cwd'"):
        benchmark_dense.measure(["cdw"])


@pytest.mark.parametrize("key", NAIVE)
def test_a_naive_form_is_the_loss(key: str) -> None:
    options = {"acam": {"keys": 99}}.get(key, {})  # as many keys as positions
    loss = kdlosses.build(dict(type=key, **options), channels=7).double()
    student = torch.randn(2, 7, 4, 6, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(2, 7, 4, 6, dtype=torch.double)
    ours, naive = loss(student, teacher), NAIVE[key](loss.loss, student, teacher)
    torch.testing.assert_close(ours, naive)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (ours, naive)))


def test_memory_of_losses_over_pairs_of_positions() -> None:
    found = {ratio.name: ratio.value for ratio in benchmark_dense.crops(share=4)}
    assert set(found) == {f"memory, {key}, crops 128x256" for key in NAIVE}
    assert 0 < found["memory, acam, crops 128x256"] < 1
    assert [ratio.name for ratio in benchmark_dense.crops(["cwd"])] == []
