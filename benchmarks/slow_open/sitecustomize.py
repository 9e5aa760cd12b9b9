"""On PYTHONPATH, this adds to every opening of a sample's file what a network filesystem takes."""

import os
import time
from typing import Any

SECONDS = 0.005

_open = os.open


def _open_late(path: Any, *arguments: Any, **keywords: Any) -> int:
    if str(path).endswith((".json", ".png", ".jpg", ".jpeg", ".exr")):
        time.sleep(SECONDS)
    return _open(path, *arguments, **keywords)


os.open = _open_late
