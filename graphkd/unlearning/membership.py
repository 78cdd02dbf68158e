"""An attack that tells from a model's answers what it has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graphkd.links.metrics import auc
from graphkd.unlearning.deletion import Deletion
from graphkd.unlearning.layers import redrawn
from graphkd.unlearning.task import Task


@dataclass(frozen=True, eq=False)
class Attack:
    """A classifier of a model's answers about an element: has the model learned from it?

    Attributes:
        classifier: of scikit-learn, fitted on the answers of a shadow model.
    """

    classifier: Any

    @torch.no_grad()
    def __call__(self, task: Task, model: nn.Module, elements: Tensor) -> Tensor:
        """The probability `(n,)` that the model has learned from the elements."""
        traits = task.traits(model, task.run(model), elements).double().numpy()
        return torch.from_numpy(self.classifier.predict_proba(traits)[:, 1])

    def auc(self, deletion: Deletion) -> float | None:
        """How often the attack is surer of a retained element than of one of the test, asked of the trained model.

        At 0.5 it can tell nothing, and neither can a ratio of its probabilities.
        """
        others = deletion.before.held_out()
        if not others.shape[-1]:
            return None
        return auc(*(self(deletion.before, deletion.model, each) for each in (deletion.after.elements, others)))


def shadow_attack(deletion: Deletion) -> Attack:
    """Fit an attack on data of its own: on a shadow model, which learned a part of them.

    The shadow model has the shape and the schedule of the trained one, new weights, and data that hold no deleted
    element. A logistic regression learns to tell elements that it has learned from others: edges by the score of a
    pair, the cosine and the size of its rows; nodes by the three largest log-probabilities and that of their own class.

    Paper: Shokri et al., "Membership Inference Attacks Against Machine Learning Models", IEEE S&P 2017; for graph
    networks Olatunji et al., 2021.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(deletion.seed)
    task, others = deletion.before.shadow(deletion.deleted, generator)
    model = redrawn(deletion.model, deletion.seed + 1)
    task.fit(model, deletion.schedule, deletion.seed)
    with torch.no_grad():
        h = task.run(model)
        found = [task.traits(model, h, each).double() for each in (task.elements, others)]
    truth = torch.arange(2).flip(0).repeat_interleave(torch.tensor([len(each) for each in found]))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    return Attack(classifier.fit(torch.cat(found).numpy(), truth.numpy()))
