"""Metrics that mmseg and mmdet do not have."""

from densekd.metrics.boundary_iou import BoundaryIoU, near_edge

__all__ = ["BoundaryIoU", "near_edge"]
