"""Real weights and data by name: fetched once, checked by sha256, used offline ever after.

from minift import assets

folder = assets.fetch("minilm")  # a folder with config.json, model.safetensors, vocab.txt, ...
"""

from minift.assets.asset import Asset
from minift.assets.cache import cache_dir
from minift.assets.catalog import ASSETS
from minift.assets.fetching import fetch, is_cached, path, verify

__all__ = ["ASSETS", "Asset", "cache_dir", "fetch", "is_cached", "path", "verify"]
