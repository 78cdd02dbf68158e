"""A model of any config with another output layer: a second head, subclasses, a classifier that is the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from densekd.registry import MODELS
from densekd.taps.defaults import tap
from kdlosses.outputs import with_output


@MODELS.register_module()
def WithOutput(
    of: Mapping[str, Any], output: str | Mapping[str, Any], path: str | None = None, data_preprocessor: Any = None
) -> nn.Module:
    """Build a model and replace its last layer, see `kdlosses.outputs.with_output`.

    It is the model of `of`, with the names of its class, to be trained, tested and exported by this config:

        model = dict(type="densekd.WithOutput", of=<model>, output=dict(type="two_heads", share=0.5))

    Args:
        of: config of the model.
        output: `'two_heads'`, `'subclasses'`, or a dict with one of these as `type` and options.
        path: of the last layer; of a segmenter that of its class logits if not given.
        data_preprocessor: as mmengine hands it to any model.

    Raises:
        ValueError, KeyError, TypeError: the model has no such layer, or there is no such output.
    """
    config = dict(of) if data_preprocessor is None else {"data_preprocessor": data_preprocessor, **of}
    model = MODELS.build(config)
    return with_output(model, tap(model, "logits") if path is None else path, output)
