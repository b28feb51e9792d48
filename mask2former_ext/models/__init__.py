"""One file, one paper. Importing this package registers the meta-architectures in Detectron2."""

from mask2former_ext.models.mask2former import Mask2Former

__all__ = ["Mask2Former"]
