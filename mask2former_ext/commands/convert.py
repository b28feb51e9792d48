"""Turn any weight file into safetensors under this package's names, and say what of it fits a model.

INPUT                               OUTPUT and options
model_final.pkl                     model.safetensors
path/to/huggingface_folder          model.safetensors --write-config model.yaml
R-50.pkl                            --config-file mask2former/coco_panoptic_r50      (report only)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detectron2.modeling import build_model
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from mask2former_ext.commands.mistakes import told
from mask2former_ext.config import add_import_option, import_own_files, load_config
from mask2former_ext.config.checks import use_available_device
from mask2former_ext.data import prepare_data
from mask2former_ext.interop.weights import WeightFile, load_weights


def main(argv: Sequence[str] | None = None, prog: str = "convert_weights.py") -> int:
    """Returns the exit code: 0, or 2 where a mistake of the person ended the work."""
    args = parse_args(argv, prog)
    return told(prog, partial(convert, args))


def parse_args(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="weight file (local, https:// or detectron2://) or Hugging Face folder")
    parser.add_argument("output", nargs="?", help="safetensors file to write")
    parser.add_argument("--config-file", "--config", help="build this model and report what of the file fits it")
    parser.add_argument("--write-config", metavar="YAML", help="write the configuration of a Hugging Face folder here")
    add_import_option(parser)
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="put over the configuration")
    args = parser.parse_args(argv)
    if not (args.output or args.config_file or args.write_config):
        parser.error("nothing to do: give OUTPUT, --config-file or --write-config")
    return args


def convert(args: argparse.Namespace) -> None:
    import_own_files(args.imports)
    weights = WeightFile(args.input)
    if args.config_file:
        tqdm.write(report(args.config_file, weights, args.opts))
    if args.output:
        state = weights.tensors
        try:
            save_file({name: value.contiguous().clone() for name, value in state.items()}, args.output)
        except SafetensorError as error:
            raise ValueError(f"{args.output}: cannot be written ({error})") from error
        tqdm.write(f"{args.output}: {len(state)} tensors, {sum(value.numel() for value in state.values()):,} numbers")
    if args.write_config:
        overrides = ["MODEL.WEIGHTS", args.output] if args.output else []
        Path(args.write_config).write_text(load_config(args.input, overrides).dump(), encoding="utf-8")
        tqdm.write(f"{args.write_config}: its configuration")


def report(config_file: str, weights: WeightFile, overrides: list[str]) -> str:
    """What of `weights` fits the model of `config_file`, as a table."""
    cfg = load_config(config_file, overrides)
    use_available_device(cfg)
    prepare_data(cfg)
    return str(load_weights(build_model(cfg), weights, cfg.INPUT.FORMAT))
