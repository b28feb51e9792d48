"""Every configuration key with its default, how a file of them is read, and which values cannot work."""

from mask2former_ext.config.keys import add_config, load_config
from mask2former_ext.config.own_files import add_import_option, import_own_files

__all__ = ["add_config", "add_import_option", "import_own_files", "load_config"]
