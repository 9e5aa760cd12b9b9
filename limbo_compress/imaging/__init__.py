"""From the bytes of a file to one row of an array.

::

    PNG, JPEG ──► image: decode (png or OpenCV) ──► color ──► resample ──► row
    OpenEXR ────► cryptomatte: scanlines or OpenEXR ──► mattes ──► resample ──► float32 rows
"""
