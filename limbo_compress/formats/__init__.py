"""How files are laid out, for those who write them and those who read them back.

::

    npy: an array's header and rows     pickling: metadata in fragments     index: after the pickle
    shard_record: a finished shard      filestate: how an input file was when it was read
"""
