"""Before any test module imports PyTorch: one BLAS thread, no downloads, for children too."""

from minift.course.environment import make_steady

make_steady()
