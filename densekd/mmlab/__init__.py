"""Distillation of OpenMMLab's models: what needs mmengine, apart from the core, which needs torch alone."""
