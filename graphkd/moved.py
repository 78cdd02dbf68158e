"""Map the module names and other names of the previous version to the new ones."""

from __future__ import annotations

from kdlosses.moved import moved_modules

_MODULES = {
    "arguments": "pipeline.arguments",
    "boosted": "networks.boosted",
    "cache": "training.cache",
    "codebook": "networks.codebook",
    "distillation": "pipeline.distill",
    "edges": "sparse.edges",
    "features": "sparse.rows",
    "latency": "training.latency",
    "lesson": "training.lesson",
    "level_weights": "rules.level_weights",
    "mlp": "networks.mlp",
    "parallel": "training.parallel",
    "ranking": "pipeline.ranking",
    "recipes.link_supervised": "links.recipes.link_supervised",
    "recipes.llp": "links.recipes.llp",
    "sampling": "sparse.sampling",
    "saved": "students.files",
    "scaling": "students.scaling",
    "shards": "sparse.shards",
    "student": "students.classifier",
    "term": "training.term",
    "walks": "sparse.walks",
}
RECIPES = {"best": "refined_teacher"}
NAMES = {
    "observe": "graphkd.data.make_setting",
    "study": "graphkd.pipeline.train_student.train_student",
    "teach": "graphkd.pipeline.train_teacher.train_teacher",
}

TEXT_NAMES = {"tune": "graphkd.text.finetune.finetune"}

moved_modules({f"graphkd.{old}": f"graphkd.{new}" for old, new in _MODULES.items()})
