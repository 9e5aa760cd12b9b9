"""On PYTHONPATH, delays every ``open`` of a sample's file, as a network filesystem does."""

import os
import time
from typing import Any

SECONDS = float(os.environ["SLOW_OPEN_SECONDS"])

_open = os.open


def _open_slowly(path: Any, *arguments: Any, **keywords: Any) -> int:
    if str(path).endswith((".json", ".png", ".jpg", ".jpeg", ".exr")):
        time.sleep(SECONDS)
    return _open(path, *arguments, **keywords)


os.open = _open_slowly
