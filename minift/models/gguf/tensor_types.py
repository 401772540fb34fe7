"""The number formats of tensors in a GGUF file: their numbers, names and block sizes."""

from typing import NamedTuple


class TensorType(NamedTuple):
    """A format: its weights come in blocks of ``weights`` that take ``size`` bytes together."""

    name: str
    weights: int
    size: int


# The parts of a block, in their order, are in dequantize.py.
SUPPORTED = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 2 + 16),
    3: TensorType("Q4_1", 32, 2 + 2 + 16),
    6: TensorType("Q5_0", 32, 2 + 4 + 16),
    7: TensorType("Q5_1", 32, 2 + 2 + 4 + 16),
    8: TensorType("Q8_0", 32, 2 + 32),
    10: TensorType("Q2_K", 256, 16 + 64 + 2 + 2),
    11: TensorType("Q3_K", 256, 32 + 64 + 12 + 2),
    12: TensorType("Q4_K", 256, 2 + 2 + 12 + 128),
    13: TensorType("Q5_K", 256, 2 + 2 + 12 + 32 + 128),
    14: TensorType("Q6_K", 256, 128 + 64 + 16 + 2),
    15: TensorType("Q8_K", 256, 4 + 256 + 32),
    30: TensorType("BF16", 1, 2),
}

# Formats that exist and are not read here; a message can at least call them by name.
OTHERS = {
    9: "Q8_1", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
