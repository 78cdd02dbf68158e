"""Measures beside those of mmseg and mmdet."""

from densekd.metrics.boundary_iou import BoundaryIoU, near_edge

__all__ = ["BoundaryIoU", "near_edge"]
