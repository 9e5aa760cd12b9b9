"""Handing data sets to other tools.

::

    Dataset ──► rows: picture and annotations of each row, by worker processes, in order
                  │
                  ├─► coco, yolo, parquet, webdataset, imagefolder: one module a format
                  ▼
    export: a hidden folder next to OUT, renamed when it is complete ──► OUT
"""
