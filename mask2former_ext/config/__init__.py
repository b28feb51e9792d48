"""Every configuration key with its default, how a file of them is read, and which values cannot work."""

from mask2former_ext.config.keys import add_config, load_config

__all__ = ["add_config", "load_config"]
