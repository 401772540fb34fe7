"""The parts that model families share: attention, masks and positions, feed-forward."""
