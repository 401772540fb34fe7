"""Lessons: notebooks built from their sources, and the rules that they keep.

notebooks.py  from source text to an executed notebook, the same bytes each time
anatomy.py    what every notebook has, as rules that name what is missing
outputs.py    what a notebook may have stored
copies.py     code shown for teaching equals the library's
budget.py     the time and memory that a notebook states, and what it takes
offline.py    no network while tests and notebooks run
overview.py   the README's table of notebooks
"""
