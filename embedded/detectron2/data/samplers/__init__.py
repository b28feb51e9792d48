from __future__ import annotations

# fmt: off
# isort: skip_file
from .distributed_sampler import (
    InferenceSampler, RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
)
from .grouped_batch_sampler import GroupedBatchSampler
