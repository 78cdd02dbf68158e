r"""Scikit-learn scalers that a student stores: column-wise affine maps.

$$ \tilde x = (x - c) \, f + s $$
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import Tensor, nn

from graphkd.spec import from_json, to_json

SCALERS = {each.__name__: each for each in (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)}


def scalers(scaler: Any) -> list[tuple[str, Any]]:
    """Names and scalers of a setting `scaler`, which is a scaler or a `Pipeline` of them, in order.

    Raises:
        ValueError: something else is among them; names it.

    >>> scalers(Pipeline([("first", MaxAbsScaler()), ("then", StandardScaler())]))
    [('first', MaxAbsScaler()), ('then', StandardScaler())]
    """
    steps = scaler.steps if isinstance(scaler, Pipeline) else [("", scaler)]
    found = [(name, step) for name, step in steps if step is not None and not isinstance(step, str)]
    if isinstance(scaler, str) or any(isinstance(step, str) and step != "passthrough" for _, step in steps):
        raise ValueError(f"scaler is a scaler of scikit-learn like StandardScaler(), got {scaler!r}")
    for name, step in found:
        where = f"the step {name!r}" if name else "scaler"
        if type(step) not in SCALERS.values():
            raise ValueError(
                f"{where} is a {type(step).__name__}; a student keeps {', '.join(SCALERS)} or a Pipeline of these: "
                "apply any other transform beforehand"
            )
        if getattr(step, "clip", False):
            raise ValueError(
                f"{where} is a {type(step).__name__} that clips, which a student does not support: set clip=False"
            )
    return found


def centres(scaler: Any) -> bool:
    """Whether a scaler moves zeros, so that sparse features must become dense."""
    return any(
        isinstance(step, MinMaxScaler) or getattr(step, "with_mean", False) or getattr(step, "with_centering", False)
        for _, step in scalers(scaler)
    )


class Affine(nn.Module):
    """The affine map of a fitted scaler on the columns of `(N, F)`, for export.

    >>> fitted = MinMaxScaler((-1, 1)).fit([[2.0], [4.0]])
    >>> Affine(fitted)(torch.tensor([[2.0], [5.0]]))
    tensor([[-1.],
            [ 2.]])
    """

    centre: Tensor
    factor: Tensor
    shift: Tensor

    def __init__(self, fitted: Any) -> None:
        super().__init__()
        one = np.ones(fitted.n_features_in_)
        if isinstance(fitted, MinMaxScaler):
            parts = fitted.data_min_, fitted.scale_, fitted.feature_range[0] * one
        else:
            centre = getattr(fitted, "mean_" if isinstance(fitted, StandardScaler) else "center_", None)
            kept = centre is not None and (not isinstance(fitted, StandardScaler) or fitted.with_mean)
            parts = centre if kept else 0 * one, one if fitted.scale_ is None else 1 / fitted.scale_, 0 * one
        for name, part in zip(("centre", "factor", "shift"), parts):
            self.register_buffer(name, torch.from_numpy(np.asarray(part, dtype=np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) * self.factor + self.shift

    def back(self, x: Tensor) -> Tensor:
        """The columns before scaling."""
        return (x - self.shift) / self.factor + self.centre


def backwards(scaler: Any, x: Tensor) -> Tensor:
    """The columns before a fitted scaler or `Pipeline` of scalers, with gradient.

    >>> fitted = Pipeline([("a", MaxAbsScaler()), ("b", MinMaxScaler((-1, 1)))]).fit([[2.0], [4.0]])
    >>> backwards(fitted, torch.tensor([[-1.0], [1.0]]))
    tensor([[2.],
            [4.]])
    """
    for _, step in reversed(scalers(scaler)):
        x = Affine(step).back(x)
    return x


def described(scaler: Any) -> dict[str, Any]:
    """A setting `scaler` as JSON, without fitted values, for `made`."""
    steps = [
        [name, type(step).__name__, to_json(step.get_params(deep=False), {}, [])] for name, step in scalers(scaler)
    ]
    return {"steps": steps, "pipeline": isinstance(scaler, Pipeline)}


def made(description: Mapping[str, Any]) -> Any:
    """Rebuild an unfitted scaler from the output of `described`."""
    steps = [(name, SCALERS[kind](**from_json(params))) for name, kind, params in description["steps"]]
    return Pipeline(steps) if description["pipeline"] else steps[0][1]


def fitted_arrays(scaler: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of all fitted attributes of a scaler."""
    for place, (_, step) in enumerate(scalers(scaler)):
        for name, value in vars(step).items():
            if name.endswith("_") and name != "feature_names_in_" and value is not None:
                yield f"{place}:{name}", torch.from_numpy(np.array(value))


def fill(scaler: Any, arrays: Mapping[str, Tensor], columns: int) -> None:
    """Set the fitted attributes of a scaler from `fitted_arrays`.

    Raises:
        ValueError: an array is not one of so many columns, or is nothing that such a scaler learns.
    """
    of_scaler = dict(enumerate(step for _, step in scalers(scaler)))
    for step in of_scaler.values():
        if isinstance(step, StandardScaler):
            step.mean_ = step.var_ = step.scale_ = None  # what it leaves out
        if isinstance(step, RobustScaler):
            step.center_ = step.scale_ = None
    for key, array in arrays.items():
        place, _, name = key.partition(":")
        if not name.endswith("_") or name.startswith("_") or array.shape not in ((), (columns,)):
            raise ValueError(f"{key!r} of shape {tuple(array.shape)} does not fit a scaler of {columns} columns")
        setattr(of_scaler[int(place)], name, array.numpy() if array.ndim else array.item())
