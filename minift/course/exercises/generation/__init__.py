"""Writing text: what to draw from, beams, the loop and its cost."""
