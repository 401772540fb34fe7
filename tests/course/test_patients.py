"""The patients of the clinic's notebook are ill where the notebook says, and can be mended."""

import pytest
import torch
import torch.nn.functional as F

from minift.compare import diagnose
from minift.course.patients import PATIENTS, admit
from minift.errors import InputError


def turn(weight):
    with torch.no_grad():
        weight.copy_(weight.T.clone())


def put_rows_back(weight):
    with torch.no_grad():
        weight.copy_(weight.view(2, 4, 2, 32).transpose(1, 2).reshape(weight.shape))


def own_forward(module):
    del module.forward


BLOCK = "transformer.layers.1"
FOUND = {
    "anna": ("layers.1.attention.output", "transposed weight",
             lambda m: turn(m.layers[1].attention.output.weight)),
    "bruno": ("layers.0.feed_forward", "activation variant",
              lambda m: setattr(m.layers[0].feed_forward, "act", F.gelu)),
    "clara": ("transformer.layers.2.attention", "scale",
              lambda m: setattr(m.transformer.layers[2].attention, "scale", 8**-0.5)),
    "david": (BLOCK, "pre-norm or post-norm", lambda m: own_forward(m.transformer.layers[1])),
    "emma": ("model.layers.0.attention.k", "q/k permutation",
             lambda m: put_rows_back(m.model.layers[0].attention.k.weight)),
    "felix": ("model.layers.2.norm_2", "norm formula",
              lambda m: own_forward(m.model.layers[2].norm_2)),
    "greta": ("embeddings", "position offset", lambda m: own_forward(m.embeddings)),
    "hugo": (BLOCK, "gradient cut off", lambda m: own_forward(m.transformer.layers[1])),
}  # fmt: skip


@pytest.mark.parametrize("name", PATIENTS)
def test_each_is_ill_in_one_place_and_one_line_mends_it(name):
    module, cause, mend = FOUND[name]
    patient = admit(name)
    diagnosis = diagnose(patient.ours, patient.theirs, patient.ids, patient.mask)
    assert (diagnosis.first, [c.name for c in diagnosis.causes]) == (module, [cause])
    mend(patient.ours)
    assert diagnose(patient.ours, patient.theirs, patient.ids, patient.mask).ok
    again = admit(name)  # a new one, as ill as before
    assert not diagnose(again.ours, again.theirs, again.ids, again.mask).ok


def test_nobody_of_that_name():
    with pytest.raises(InputError, match="patient: unknown 'ida'; known: anna, bruno, clara"):
        admit("ida")


def test_the_users_seed_stays_where_it_was():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    admit("anna")
    assert torch.equal(torch.rand(3), wanted)
