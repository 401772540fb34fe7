"""How the kernels are held to their word: cases with bounds, machine code, and the tables of both.

One module a kernel (its cases, the bound of its error, the configurations that are shipped);
``verify`` runs them all, ``table`` prints what they found.
"""
