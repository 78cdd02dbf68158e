"""Put the configs into the wheel: into `.mim/configs` of the package that reads them, where OpenMMLab has its own.

All else stands in setup.cfg.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = {
    "graphkd": (
        *("graph", "links", "tasks", "federated", "unlearning", "condensed", "recommendation", "scenes"),
        *(f"_base_/{name}.py" for name in ("graph", "links", "unlearning")),
    ),
    "densekd": (
        "seg",
        "det",
        "bev",
        *(f"_base_/{each}" for each in ("datasets", "models", "pairs", "schedules", "tables")),
    ),
}


class build_py_with_configs(build_py):
    """An editable install reads the clone's `configs/`."""

    def run(self) -> None:
        super().run()
        for package, parts in CONFIGS.items() if not self.editable_mode else ():
            home = Path(self.build_lib, package, ".mim", "configs")
            shutil.rmtree(home, ignore_errors=True)
            for part in parts:
                source = Path("configs", part)
                for file in [source] if source.is_file() else source.rglob("*.py"):
                    target = home / file.relative_to("configs")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)


setup(cmdclass={"build_py": build_py_with_configs})
