"""Distillation of any PyTorch model: what needs torch alone."""
