"""Training a net after it was quantized: the steps of ``ristretto finetune``."""

from ristretto.pipeline.finetune.loop import Asked, finetune
from ristretto.pipeline.finetune.options import FinetuneOptions

__all__ = ["Asked", "FinetuneOptions", "finetune"]
