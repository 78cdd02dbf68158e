from __future__ import annotations

from torch import nn

from graphkd.recipes.registry import recipe
from graphkd.recipes.terms import terms
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History
from kdlosses.rules.quantise import bake, quantise


@recipe()
def quant_distill(
    model: nn.Module,
    lesson: Lesson,
    *,
    lam: float = 0.3,
    bits: int = 4,
    tau: float = 2.0,
    bucket: int = 256,
    ends: bool = True,
) -> History:
    r"""Quantised distillation: train a student with low-bit weights from a full-precision teacher.

    $$ L = \lambda \frac{1}{|V_L|} \sum_{i \in V_L} \mathrm{CE}(z_i, y_i)
         + (1 - \lambda) \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^t_i \,\|\, p_i), \qquad z = f_{q(\theta)}(x) $$

    Forward and backward pass see the quantised weights $q(\theta)$, the optimiser moves $\theta$ beneath them, see
    `kdlosses.rules.EvenPoints`; the student is left with the quantised ones, and selected by them.

    Args:
        model: the student, trained in place.
        lesson: with the teacher's logits.
        lam: weight of the labels; 1 quantises without a teacher.
        bits: of a weight; biases keep theirs. 32 is no quantisation.
        tau: temperature.
        bucket: weights that share a scale; each bucket keeps two numbers beside its bits.
        ends: quantise the first and the last layer too.

    Paper: Polino et al., "Model Compression via Distillation and Quantization", ICLR 2018: 0.7 of the distillation and
    0.3 of the labels. Its KL is a mean over all elements: factor 1 / C.
    """
    quantise(model, bits, bucket, ends=ends)
    history = terms(model, lesson, distills=[dict(loss=dict(type="kl", tau=tau))], lam=lam)  # type: ignore[arg-type]
    bake(model)
    return history
