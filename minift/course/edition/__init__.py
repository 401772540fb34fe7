"""Editions of the course: what a teacher hands out.

release.py    the students' edition, without a solution anywhere
stripped.py   an exercise's file without its answers
recording.py  what its check knows, written down: inputs, right outputs, how mistakes behave
recorded.py   and read again in the students' edition
nbgrader.py   the course in the form that nbgrader takes
"""
