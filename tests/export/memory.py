"""The real command, which prints how many KB it and its largest worker had in memory at most."""

from __future__ import annotations

import resource
import sys

from limbo_compress.cli.start import export

if __name__ == "__main__":
    code = export()
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print("peaks:", *peaks)
    sys.exit(code)
