"""Parity with Hugging Face: how far two models are apart, where they part, and why.

compare(ours, theirs, input_ids)     outputs, layer by layer, and gradients: are they equal?
diagnose(ours, theirs, input_ids)    module by module: the first one that differs, and causes

quantities.py   the rule for "equal", and the table of quantities
running.py      one batch through both models, theirs in two ways: the noise floor
pairs.py        which module of ours is which of theirs, from the family's weight names
record.py       what goes into and comes out of each module, forward and backward
diagnosis.py    the records side by side
hypotheses/     mistakes that people make, tried on the recorded inputs
drawing.py      a bar per layer
"""

from minift.compare.diagnosis import Diagnosis, Site, diagnose
from minift.compare.drawing import draw
from minift.compare.hypotheses.evidence import Cause
from minift.compare.quantities import Report, Row, compare, tolerance

__all__ = ["Cause", "Diagnosis", "Report", "Row", "Site", "compare", "diagnose", "draw"]
__all__ += ["tolerance"]
