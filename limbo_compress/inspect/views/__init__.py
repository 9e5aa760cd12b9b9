"""Rows made visible.

::

    rows ──► pictures ──┬──► sheet    ──► FILE.png
             sRGB and   └──► gallery  ──► DIR/index.html
             outlines        assets
"""
