"""Annotations as the metadata of samples have them."""

from __future__ import annotations

from typing import Any


def box(*bbox: Any, category: Any = "30B", mode: Any = "XYWH_ABS") -> dict[str, Any]:
    return {"bbox": list(bbox), "bbox_mode": mode, "category": category}


def contour(*lines: Any, category: Any = "30B", mode: str = "XY_ABS") -> dict[str, Any]:
    return {"contours": list(lines), "contour_mode": mode, "category": category}


def square(left: float, top: float, width: float, height: float) -> list[list[float]]:
    """A contour of four corners."""
    right, bottom = left + width, top + height
    return [[left, top], [right, top], [right, bottom], [left, bottom]]
