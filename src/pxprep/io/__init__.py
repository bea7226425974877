"""Images in the files that people have, as lazy images, into a SpatialData store, and out of it.

Folders of fields of view with one TIFF for each channel, OME-TIFFs and other TIFFs of several
channels, imaging mass cytometry, and OME-Zarr. Needs ``pip install 'pxprep[io]'``.
"""

from .exporting import export_images
from .folders import read_folder
from .imc import read_imc
from .importing import import_images
from .opening import open_images
from .panels import Panel, read_panel
from .tiff import read_tiff

__all__ = [
    "Panel",
    "export_images",
    "import_images",
    "open_images",
    "read_folder",
    "read_imc",
    "read_panel",
    "read_tiff",
]
