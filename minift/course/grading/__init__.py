"""Grading: other people's code, run where it can do no harm, and judged where it cannot reach.

    sources.py   what a submission is: files, the functions in them, and the code those need
    vetting.py   which kernels are nothing but Triton
    wire.py      plain values and tensors as bytes
    isolation.py a process without network, files, processes and privileges (Linux)
    nursery.py   the process that starts such processes, and what runs in them
    remote.py    a learner's function as the checks see it: called here, run over there
    work.py      what students handed in, and what came of it
    points.py    what exercises are worth
    grade.py     submissions in, scores out, in parallel
    feedback.py  the scores as CSV, JSON, JUnit and one page for each student

The checks themselves, with their oracles and comparisons, run in the caller's process. What comes
back from the learner's is data, looked at as such.
"""
