"""What our trainer adds to Detectron2's: parameter groups, the non-finite rule, joint batches, all metrics at once."""

from mask2former_ext.engine.launch import launch
from mask2former_ext.engine.setup import argument_parser, checked_configuration, setup
from mask2former_ext.engine.trainer import Trainer, evaluate, results_table

__all__ = ["Trainer", "argument_parser", "checked_configuration", "evaluate", "launch", "results_table", "setup"]
