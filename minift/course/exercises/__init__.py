"""The exercises: one file each, ``PART/TOPIC.py``, found by its place."""
