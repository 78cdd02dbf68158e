"""New places of the previous version's modules and names."""

from __future__ import annotations

from kdlosses.moved import moved_modules

_MODULES = {
    "adapt": "align.adapt",
    "amp": "runs.amp",
    "bev.geometry": "sensors.geometry",
    "bev.natural": "taps.bev",
    "bev.sensors": "sensors.batches",
    "config": "mmlab.config",
    "csf": "align.csf",
    "distiller": "mmlab.distiller",
    "embedding_assistant": "align.embedding_assistant",
    "experiment": "runs.experiment",
    "gl_mixer": "align.gl_mixer",
    "natural": "taps.defaults",
    "normalisation": "sensors.normalisation",
    "probe": "mmlab.probe",
    "resume": "runs.resume",
    "taps.probe": "mmlab.probe",
    "workers": "runs.workers",
}
NAMES = {
    "distil": "densekd.mmlab.config.distill",
    "leave": "densekd.runs.experiment.shutdown_distributed",
    "natural_taps": "densekd.taps.defaults.default_taps",
}

moved_modules({f"densekd.{old}": f"densekd.{new}" for old, new in _MODULES.items()})
