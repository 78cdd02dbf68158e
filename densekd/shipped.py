"""The configs of this package by name, and how mmengine reads those that are rows of `densekd.pairs`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from densekd.pairs import ROWS, row_at
from kdlosses.shipped import Shipped

CONFIGS = Shipped("densekd", ("seg", "det", "bev"), ROWS)
"""`densekd::seg/...`, `densekd::det/...` and `densekd::bev/...`; `seg/` may be left out."""


def read_rows(reader: Any) -> None:
    """Let mmengine's `Config` class read a row of the table where it looks for its file, as a path or as a `_base_`.

    What is no row is read as before.
    """
    file_to_dict, is_lazy_import = reader._file2dict, reader._is_lazy_import
    if hasattr(file_to_dict, "plain"):
        return

    def _file2dict(filename: str, *options: Any, **more: Any) -> tuple[dict[str, Any], str, dict[str, Any]]:
        found = row_at(filename)
        if found is None:
            return file_to_dict(filename, *options, **more)
        row, configs = found
        base, text, variables = file_to_dict(str(configs / row.base), *options, **more)
        fields = row.fields(configs)
        told = "".join(f"{name} = {value!r}\n" for name, value in fields.items())
        merged = reader._merge_a_into_b(fields, reader._dict_to_config_dict(base, None))
        return merged, f"{text}\n{filename}\n{told}", variables

    def _is_lazy_import(filename: str) -> bool:
        return row_at(filename) is None and is_lazy_import(filename)

    _file2dict.plain = file_to_dict  # type: ignore[attr-defined]
    reader._file2dict = staticmethod(_file2dict)
    reader._is_lazy_import = staticmethod(_is_lazy_import)


def read_names(get_config: Callable[..., Any], reader: Any) -> Callable[..., Any]:
    """Return mmengine's `get_config`, which reads `densekd::...` as well."""
    if hasattr(get_config, "plain"):
        return get_config

    def get(cfg_path: str, *options: Any, **more: Any) -> Any:
        if cfg_path.startswith("densekd::"):
            return reader.fromfile(CONFIGS.find(cfg_path))
        return get_config(cfg_path, *options, **more)

    get.plain = get_config  # type: ignore[attr-defined]
    return get


def is_config(path: str | Path) -> bool:
    """Whether there is such a file, or such a row."""
    return Path(path).is_file() or row_at(path) is not None
