"""Looking inside a model while it runs.

    attention_maps, rollout      where tokens look, and how far what they see has come
    logit_lens                   what each layer would say if it were the last
    integrated_gradients         how much each token adds to a result
    activation_patching          which layer and position carries the difference of two texts

All of them work through hooks on the modules of this project's models and leave the models as
they were. ``draw_…`` makes a figure of each result.
"""

from minift.inspect.figures import (
    draw_attention,
    draw_attributions,
    draw_lens,
    draw_patching,
    draw_rollout,
)
from minift.inspect.gradients import Attribution, integrated_gradients, path_integral
from minift.inspect.lens import logit_lens
from minift.inspect.maps import attention_maps, rollout
from minift.inspect.patching import Patching, activation_patching, patched, recorded
from minift.inspect.stack import layer_names

__all__ = [
    "Attribution",
    "Patching",
    "activation_patching",
    "attention_maps",
    "draw_attention",
    "draw_attributions",
    "draw_lens",
    "draw_patching",
    "draw_rollout",
    "integrated_gradients",
    "layer_names",
    "logit_lens",
    "patched",
    "path_integral",
    "recorded",
    "rollout",
]
