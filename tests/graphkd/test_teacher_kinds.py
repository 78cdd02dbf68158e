"""Teachers, students and arguments of the kinds that people have: taken, or refused before anything is trained."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch_geometric.nn import GCN

from graphkd import Cache, LinkStudent, Split, StudentClassifier, distill, distill_links, train_teacher
from graphkd.data import Graph, make_setting
from graphkd.pipeline.measure import measure_latency
from graphkd.teachers import TEACHERS
from graphkd.training.loop import History

N = 90
Y = torch.arange(N) % 3
X = torch.eye(3, 6)[Y] + 0.5 * torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
RING = torch.stack([torch.arange(N), (torch.arange(N) + 3) % N])
EDGES = torch.cat([RING, RING.flip(0)], 1)
SPLIT = Split(*torch.randperm(N, generator=torch.Generator().manual_seed(1)).split([15, 15, 60]))
STUDENT = StudentClassifier((8,), epochs=3)
LONG = dict(type="gcn", epochs=10**9)  # what would never end must be refused before

pytestmark = pytest.mark.filterwarnings("ignore:.*no teacher is better", "ignore:.*no record of its")


def run(teacher: Any, method: Any = "glnn", data: Any = None, **options: Any) -> Any:
    data = SimpleNamespace(x=X, edge_index=EDGES, y=Y) if data is None else data
    return distill(data, teacher, method, **{"student": STUDENT, "split": SPLIT, "setting": "tran", **options})


class Tuple(nn.Module):
    """Returns its logits beside something else, and drops units in training."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.network, self.last = GCN(6, 8, 2, 3, dropout=0.9), last

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        logits, more = self.network(x, edge_index), x[:, :2]
        return (more, logits) if self.last else [logits, more, None]


BUILDERS: dict[str, Any] = {
    "partial of ours": functools.partial(TEACHERS["gcn"], hidden=8),
    "partial in a dict": dict(type=functools.partial(TEACHERS["gcn"], hidden=8), dropout=0.5),
    "partial of a class": functools.partial(GCN, num_layers=2, hidden_channels=8),
    "partial of a partial": functools.partial(functools.partial(TEACHERS["sage"]), hidden=8),
    "lambda": lambda features, classes: GCN(features, 8, 2, classes),
    "class": None,
    "float64": lambda features, classes: GCN(features, 8, 2, classes).double(),
    "tuple": lambda features, classes: Tuple(),
}


class Mine(nn.Module):
    def __init__(self, in_features: int, classes: int, *, width: int = 8) -> None:
        super().__init__()
        self.network = GCN(in_features, width, 2, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.network(x, edge_index)


@pytest.mark.parametrize("kind", BUILDERS)
def test_whatever_builds_a_module_is_trained_and_its_cache_saved(kind: str, tmp_path: Path) -> None:
    spec = BUILDERS[kind] or dict(type=Mine, width=4)
    if kind == "partial of a class":
        spec = lambda f, c, build=spec: build(f, out_channels=c)  # noqa: E731
    spec = {"epochs": 3, **(spec if isinstance(spec, dict) else {"type": spec})}
    result = run(spec)
    result.cache.save(tmp_path / "c")
    cache = Cache.load(tmp_path / "c")
    assert cache.logits.dtype == np.float32
    assert cache.settings["teacher"]["epochs"] == 3
    assert cache.settings["split"] == SPLIT.fingerprint()
    assert run(cache).metrics["teacher"] == result.metrics["teacher"]


def test_a_partial_of_a_builder_is_that_builder_with_options() -> None:
    one = run(dict(type=functools.partial(TEACHERS["gcn"], hidden=8, dropout=0.1), epochs=3, dropout=0.3))
    other = run(dict(type="gcn", hidden=8, epochs=3, dropout=0.3))
    np.testing.assert_array_equal(one.cache.logits, other.cache.logits)
    assert one.cache.settings == other.cache.settings


MODULES: dict[str, Callable[[], nn.Module]] = {
    "float32": lambda: GCN(6, 8, 2, 3),
    "float64": lambda: GCN(6, 8, 2, 3).double(),
    "bfloat16": lambda: GCN(6, 8, 2, 3).bfloat16(),
    "ours in float64": lambda: TEACHERS["sage"](6, 3).double(),
    "ours in bfloat16": lambda: TEACHERS["sage"](6, 3, hidden=8).bfloat16(),
    "a list": Tuple,
    "a tuple": lambda: Tuple(last=True),
    "no parameters": lambda: Fixed(),
}


class Fixed(nn.Module):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return x[:, :3]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_a_module_is_run_in_its_own_dtype_and_left_as_it_was(kind: str, training: bool) -> None:
    torch.manual_seed(0)
    network = MODULES[kind]()
    network.train(training)
    for part in list(network.modules())[1:2]:
        part.training = False  # frozen, as batch norms are
    modes = [part.training for part in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for setting in ("tran", "ind"):
        result = run(network, setting=setting)
        assert result.outcomes["teacher"][setting].model is network
        assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    cache = run(network, "tined" if kind == "ours in bfloat16" else "glnn").cache
    assert cache.logits.dtype == np.float32
    network.eval()
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    with torch.no_grad():
        own = network(X.to(dtype), EDGES)
    logits = own if isinstance(own, Tensor) else next(each for each in own if each.shape == (N, 3))
    np.testing.assert_allclose(cache.logits, logits.float(), atol=1e-2 if dtype is torch.bfloat16 else 1e-5)


def test_several_modules_of_unlike_kinds_teach_together() -> None:
    networks = [GCN(6, 8, 2, 3).double(), Tuple(), TEACHERS["sage"](6, 3).bfloat16()]
    for setting in ("tran", "ind"):
        result = run(networks, setting=setting)
        assert result.cache.logits.shape == (N, 9)
        assert all(network.training for network in networks)
        assert result.latency["teacher"]["all_nodes"] > 0


def test_latency_leaves_a_module_as_it_is() -> None:
    network = nn.BatchNorm1d(6)
    wrapped = Fixed()
    wrapped.norm = network  # type: ignore[assignment]
    before = network.running_mean.clone()  # type: ignore[union-attr]
    measure_latency(wrapped, Graph.of(SimpleNamespace(x=X, edge_index=EDGES, y=Y)), needs_edges=True)
    assert wrapped.training
    assert network.training
    assert torch.equal(network.running_mean, before)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["float32", "float64", "tensor", "bfloat16", "list"])
def test_logits_teach_as_their_cache_does(form: str) -> None:
    logits = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    forms: dict[str, Any] = {
        "float32": logits.numpy(),
        "float64": logits.double().numpy(),
        "tensor": logits.requires_grad_(),
        "bfloat16": logits.bfloat16(),
        "list": [logits, logits.detach().numpy()],
    }
    view = make_setting(Graph.of(SimpleNamespace(x=X, edge_index=EDGES, y=Y)), SPLIT, "tran", 0)
    cache = Cache(logits.detach().numpy(), np.arange(N), np.ones(N, dtype=bool), view.whole.fingerprint())
    expected = run([cache, cache] if form == "list" else cache)
    for setting in ("tran", "all"):
        found = run(forms[form], setting=setting)
        assert found.metrics == expected.metrics
        assert found.latency.keys() == {"student"}
    assert train_teacher(view, forms[form]).metrics == expected.metrics["teacher"]


def test_logits_of_the_nodes_that_are_seen_alone_are_of_the_setting_ind() -> None:
    graph = Graph.of(SimpleNamespace(x=X, edge_index=EDGES, y=Y))
    view = make_setting(graph, SPLIT, "ind", 0)
    logits = torch.randn(N, 3).index_fill(0, view.unseen, torch.nan)
    assert "prod" in run(logits, setting="all").metrics["student"]
    with pytest.raises(ValueError, match="the cache observed 90 nodes, the setting 'ind' shows 78"):
        run(torch.randn(N, 3), setting="ind")


WRONG: dict[str, tuple[Any, str]] = {
    "logits of other nodes": (
        np.zeros((5, 3)),
        r"the teacher's logits are float64 \(5, 3\); expected numbers, 90 nodes",
    ),
    "logits of other classes": (np.zeros((N, 4)), r"\(90, 4\); expected numbers, 90 nodes by 3 classes"),
    "labels": (Y, r"the teacher's logits are float32 \(90,\)"),
    "NaN": (np.full((N, 3), [0.0, 1.0, np.nan]), "logits are NaN or infinite at node 0"),
    "None": (None, "a teacher is a name of graphkd.teachers, .*; got NoneType"),
    "number": (3, "a teacher is a name .*; got int"),
    "numbers": ([[0.1, 0.2, 0.7]] * N, "a teacher is a name .*; got list"),
    "dict without type": (dict(hidden=8), "a teacher is a name .*; got a dict with a NoneType as type"),
    "a module in a dict": (dict(type=Fixed(), epochs=3), "a teacher is a name .*; got a dict with a Fixed as type"),
    "no module": (
        lambda features, classes: None,
        "the teacher '<lambda>' returns a NoneType; expected a torch.nn.Module",
    ),
    "no function": (int, "the teacher 'int' must be a function"),
    "none at all": ([], "the list of teachers is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_teacher_is_named_before_training(case: str) -> None:
    teacher, message = WRONG[case]
    with pytest.raises((TypeError, ValueError), match=message):
        run(teacher)
    if case not in ("none at all", "no module", "numbers"):
        with pytest.raises((TypeError, ValueError), match=message):
            run([LONG, teacher])


class Odd(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [(X, X), (X[:, :3], X[:, 3:]), {"logits": X[:, :3]}, None])
def test_a_module_that_returns_no_logits_or_two_is_named(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"the teacher returns .*; expected logits \(90, 3\)"):
        run(Odd(answer))


def test_what_is_wrong_with_one_of_several_is_named_before_the_first_is_trained() -> None:
    cache = run(dict(type="gcn", epochs=1)).cache
    wide = replace(cache, logits=np.zeros((N, 4), dtype=np.float32))
    for last, message in (
        (GCN(6, 8, 2, 4), r"the teacher gives \(90, 4\); expected 90 nodes by 3 classes"),
        (wide, "the cache has 4 classes, the graph 3"),
        (replace(cache, fingerprint="f00d"), "the cache belongs to another graph"),
        (dict(type="gat", hidden=9), "gat: hidden"),
        (dict(type="gcn", lr=-1), "lr is a finite number from 0, got -1"),
        (dict(type="gcn", epochs=-1), "epochs is a whole number from 0, got -1"),
        (dict(type="gcn", hidden=None), "hidden is a whole number from 1, got None"),
        (dict(type="sage", layers=1.5), "layers is a whole number from 1, got 1.5"),
        (dict(type="gat", attention_dropout=2), "attention_dropout is a finite number from 0 and below 1, got 2"),
        (dict(type="appnp", alpha="a"), "alpha is a finite number from 0, got 'a'"),
        (dict(type="sgc", hops=-1), "hops is a whole number from 0, got -1"),
        (GCN(5, 8, 2, 3), r"the teacher 'GCN' cannot be run on features \(90, 6\) and edges \(2, 180\): mat1 and"),
        (nn.Linear(6, 3), "the teacher 'Linear' cannot be run on features .*takes 2 positional arguments"),
    ):
        with pytest.raises(ValueError, match=message):
            run([LONG, last])
    with pytest.raises(ValueError, match="dropout is a finite number"):
        run(LONG, student=StudentClassifier((8,), dropout=np.float32(1.5)))


@pytest.mark.filterwarnings("default:.*no record of its")
def test_of_a_ready_teacher_that_does_not_say_what_it_saw_there_is_a_warning(tmp_path: Path) -> None:
    network = GCN(6, 8, 2, 3)
    unsure = "no record of its training split: if it has seen labels of test nodes"
    for teacher in (network, network(X, EDGES), [network, LONG | dict(epochs=1)], run(network).cache):
        with pytest.warns(UserWarning, match=unsure):
            run(teacher)
    first = run(dict(type="gcn", epochs=2))
    first.cache.save(tmp_path / "c")
    known, trained = Cache.load(tmp_path / "c"), first.outcomes["teacher"]["tran"].model
    before = replace(known, settings={k: v for k, v in known.settings.items() if k != "split"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*no teacher is better")
        for teacher in (known, trained, before, [known, known]):
            run(teacher)
        network.trained_on = SPLIT.fingerprint()  # type: ignore[assignment]
        run(network)
    other = Split(SPLIT.test[:15], SPLIT.val, torch.cat([SPLIT.train, SPLIT.test[15:]]))
    for teacher in (known, trained):
        with pytest.warns(UserWarning, match="was trained on another split"):
            run(teacher, split=other)
    with pytest.warns(UserWarning, match=unsure):
        run(before, seed=1)


def test_probabilities_are_not_taken_for_logits_in_silence() -> None:
    with pytest.warns(UserWarning, match="rows sum to 1: of probabilities pass the logarithm"):
        run(torch.randn(N, 3).softmax(1))
    with pytest.warns(UserWarning, match="rows sum to 1: of probabilities pass the logarithm"):
        run(_Sure())
    cache = run(dict(type="gcn", epochs=1)).cache
    with pytest.warns(UserWarning, match="rows sum to 1: of probabilities pass the logarithm"):
        run(replace(cache, logits=torch.from_numpy(cache.logits).softmax(1).numpy()))


class _Sure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = GCN(6, 8, 2, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.network(x, edge_index).softmax(1)


def test_logits_that_are_no_real_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="logits are complex64"):
        run(torch.zeros(N, 3, dtype=torch.complex64))


def test_a_teacher_no_better_than_the_control_is_named() -> None:
    with pytest.warns(
        UserWarning, match=r"tran: no teacher is better than the student without one .*; train the teacher"
    ):
        run(-10 * nn.functional.one_hot(Y, 3).float())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*no record of its")
        run(10 * nn.functional.one_hot(Y, 3).float(), student=StudentClassifier((8,), epochs=1, lr=1e-6))


NUMBERS: dict[str, Any] = {
    "int64": dict(hidden=np.int64(8)),
    "float32": dict(lr=np.float32(0.01), dropout=np.float32(0.5)),
    "0-d": dict(hidden=np.array(8), weight_decay=torch.tensor(0.001)),
    "str": dict(type=np.str_("gcn")),
    "nested": dict(tune=dict(type="mcmi", lam=np.float64(0.1), epochs=np.int64(1))),
    "tuple": dict(shard=(np.int64(0), np.int32(2))),
    "function": dict(type=Mine, width=np.uint8(4)),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_numpy_are_numbers(case: str, tmp_path: Path) -> None:
    result = run(
        {"type": "gcn", "epochs": np.int64(3), **NUMBERS[case]},
        dict(type="glnn", lam=np.float32(0.5)),
        seed=np.int64(0),
    )
    result.cache.save(tmp_path / "c")
    told = json.loads((tmp_path / "c" / "meta.json").read_text())["settings"]["teacher"]
    assert told["epochs"] == 3


def test_options_that_are_no_json_do_not_stop_a_cache_from_being_saved(tmp_path: Path) -> None:
    def build(features: int, classes: int, *, act: Any, sizes: Any) -> nn.Module:
        return GCN(features, int(sizes[0]), 2, classes, act=act())

    run(dict(type=build, act=nn.ELU, sizes=np.array([8]), epochs=1)).cache.save(tmp_path / "c")
    told = Cache.load(tmp_path / "c").settings["teacher"]
    assert (told["type"], told["act"], told["sizes"]) == ("build", "ELU", [8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seed=True), "seed is a whole number, not True"),
        (dict(seed=0.5), "seed is a whole number, not 0.5"),
        (dict(seed="0"), "seed is a whole number, not '0'"),
        (dict(seed=None), "seed is a whole number, not None"),
        (dict(seed=-1), r"seed is from 0 to 2\*\*32 - 1, got -1"),
        (dict(setting="both"), "no setting is called 'both'"),
        (dict(setting=None), "no setting is called None"),
        (dict(setting=["tran"]), r"no setting is called \['tran'\]"),
        (dict(isolated=True), "isolated is 'raise' or 'keep', not True"),
        (dict(isolated=None), "isolated is 'raise' or 'keep', not None"),
        (dict(method=nn.Linear(6, 3)), "a method is a name, .*; got Linear"),
        (dict(method=3), "a method is a name, .*; got int"),
        (dict(student=LogisticRegression()), "student is a StudentClassifier, .*; got a LogisticRegression"),
        (
            dict(student=StudentClassifier),
            "student is a StudentClassifier, .*; got the class StudentClassifier; call it",
        ),
        (dict(student="mlp"), "student is a StudentClassifier, .*; got a str"),
        (
            dict(student=make_pipeline(StandardScaler(), LogisticRegression())),
            "Pipeline whose last step is one; got a Pi",
        ),
        (
            dict(student=make_pipeline(SelectKBest(k=2), STUDENT)),
            "fits its steps before the last on features alone: .*requires y",
        ),
    ],
)
def test_arguments_of_a_wrong_kind_are_named_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run(LONG, **options)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("setting", ["tran", "ind"])
@pytest.mark.parametrize("method", ["glnn", "nosmog"])
def test_a_pipeline_that_ends_in_a_student_is_fitted_on_what_is_seen(sparse: bool, setting: str, method: Any) -> None:
    apart = torch.linspace(1, 3, 30)  # no two directions of the SVD are alike
    x = apart * nn.functional.one_hot(torch.arange(N) % 30, 30) if sparse else 100 * X + 7
    data = SimpleNamespace(x=x, edge_index=EDGES, y=Y)
    step: Any = TruncatedSVD(4, random_state=0) if sparse else StandardScaler()
    student = Pipeline([("step", step), ("student", STUDENT)])
    method = dict(type="nosmog", inputs=dict(width=4, walks=1, length=5)) if method == "nosmog" else method
    result = run(dict(type="gcn", epochs=2), method, data, student=student, setting=setting)
    fitted = result.student
    assert isinstance(fitted, Pipeline)
    assert not hasattr(student[-1], "network_")
    if not sparse:
        alone = StudentClassifier.from_pipeline(fitted)
        wide = np.zeros((N, alone.n_features_in_), dtype=np.float32)
        np.testing.assert_array_equal(alone.predict(wide), fitted.predict(wide))
    if method == "glnn":
        view = make_setting(Graph.of(data), SPLIT, setting, 0)  # type: ignore[arg-type]
        expected = type(step)(**step.get_params()).fit(x[view.observed].numpy())
        np.testing.assert_allclose(fitted[:-1].transform(x.numpy()), expected.transform(x.numpy()), atol=1e-3)
        right = fitted.predict(x.numpy())[SPLIT.test] == Y[SPLIT.test].numpy()
        key = "tran" if setting == "tran" else "prod"
        assert result.metrics["student"][key] == pytest.approx(right.mean(), abs=0.2)
        if setting == "tran":
            assert result.metrics["student"]["tran"] == pytest.approx(right.mean())
    assert set(result.latency["student"]) == {"all_nodes", "one_node", "batch"}


def test_a_step_that_cannot_take_the_features_fails_before_training() -> None:
    x = nn.functional.one_hot(torch.arange(N) % 30, 30).float()  # kept sparse
    with pytest.raises(ValueError, match="Cannot center sparse matrices"):
        run(LONG, data=SimpleNamespace(x=x, edge_index=EDGES, y=Y), student=make_pipeline(StandardScaler(), STUDENT))


def test_what_links_are_distilled_with_is_checked_before_training() -> None:
    data, student = SimpleNamespace(x=X, edge_index=EDGES), LinkStudent((8, 8), epochs=1, k=2)
    quick = dict(type=functools.partial(TEACHERS["sage"]), hidden=np.int64(8), epochs=np.int64(2), lr=np.float32(0.01))
    taken = distill_links(data, quick, dict(type="llp", walks=np.int64(1)), student=student, seed=np.int64(0))  # type: ignore[arg-type]
    network = taken.outcomes["teacher"].model
    network.train()
    with pytest.warns(UserWarning, match="no record of its training edges"):
        again = distill_links(data, network, dict(type="llp", walks=1), student=student)
    assert again.hits["teacher"] == taken.hits["teacher"]
    assert all(part.training for part in network.modules())
    with pytest.warns(UserWarning, match="90 of 90 edges have no reverse"):
        distill_links(SimpleNamespace(x=X, edge_index=RING), quick, student=student)
    for options, message in (
        (dict(seed=True), "seed is a whole number"),
        (dict(student=STUDENT), "student is a LinkStudent, got StudentClassifier"),
        (dict(teacher=GCN(6, 8, 2, 3)), "a teacher of links is .*; got GCN"),
        (dict(teacher=None), "a teacher of links is .*; got NoneType"),
        (dict(teacher=dict(type="sage", hidden=-1)), "hidden is a whole number from 1, got -1"),
        (dict(method=None), "a method is a name, .*; got NoneType"),
        (dict(split=3), "a split is a name, .*; got int"),
        (dict(student=LinkStudent((8, 8), k=10**6)), "needs 1000000 non-edges to rank edges among, the split has"),
        (dict(teacher=lambda f, w: None), "the teacher '<lambda>' returns a NoneType"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            distill_links(data, **{"teacher": LONG, "student": student, **options})  # type: ignore[arg-type]


def test_a_method_of_ones_own_sees_a_plain_lesson() -> None:
    def mine(model: nn.Module, lesson: Any, **options: Any) -> History:
        return lesson.train(model, lambda _: lesson.hard_loss(model), len(lesson))

    assert run(dict(type="gcn", epochs=1), mine).metrics["student"]
