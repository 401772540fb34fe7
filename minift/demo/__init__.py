"""``python -m minift demo``: the main job on real weights, and a page that shows what came out."""
