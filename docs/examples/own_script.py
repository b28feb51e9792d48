"""Mask2Former in a Detectron2 script of your own: `add_config` makes models and keys known; Detectron2 trains."""

from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer

from mask2former_ext import add_config
from mask2former_ext.data import build_train_loader, prepare_data
from mask2former_ext.engine.optimizer import build_optimizer


class MyTrainer(DefaultTrainer):
    build_train_loader = staticmethod(build_train_loader)
    build_optimizer = staticmethod(build_optimizer)


cfg = get_cfg()
add_config(cfg)
cfg.merge_from_file("docs/examples/own_script.yaml")
prepare_data(cfg)  # registers the data sets that `cfg` names, and counts their classes
trainer = MyTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
