"""How files are laid out, for those who write them and those who read them back.

::

    npy: an array's header and rows     pickling: metadata in fragments
    index: what follows the pickle      index_1, index_2, columns: its versions
    shard_record: a finished shard      filestate: how an input file was when it was read
    geometry: boxes and contours in metadata
"""
