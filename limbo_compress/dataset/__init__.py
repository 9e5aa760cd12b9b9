"""Reading the outputs back.

::

    PREFIX-images.npy, PREFIX-masks-*.npy, PREFIX-metadata.pickle ──► load ──► Dataset
"""
