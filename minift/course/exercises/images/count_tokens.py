"""images.count_tokens: predict the size of a ViT's sequence and of its first layer."""

from collections.abc import Iterator

from transformers import ViTConfig, ViTModel

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def square() -> Iterator[Inputs]:
    for image, patch in (((4, 4), (2, 2)), ((12, 12), (4, 4)), ((6, 6), (6, 6)), ((5, 5), (1, 1))):
        yield {"image": image, "patch": patch, "channels": 1, "hidden": 8}


def oblong() -> Iterator[Inputs]:
    yield {"image": (2, 8), "patch": (2, 2), "channels": 1, "hidden": 4}
    for seed in range(6):
        rng = draw(seed)
        patch = (rng.randint(1, 5), rng.randint(1, 5))
        image = (patch[0] * rng.randint(1, 6), patch[1] * rng.randint(1, 6))
        yield {"image": image, "patch": patch, "channels": rng.randint(2, 4), "hidden": 12}


def left_over() -> Iterator[Inputs]:
    yield {"image": (7, 9), "patch": (2, 4), "channels": 3, "hidden": 6}
    yield {"image": (15, 15), "patch": (4, 4), "channels": 1, "hidden": 10}


exercise = Exercise(
    "images.count_tokens",
    "Predict: tokens and numbers of a ViT",
    properties=(
        Equals("square images", square, "The class token is a token, too, and has a position."),
        Equals("oblong images of several channels", oblong, "A patch has R · p · q numbers."),
        Equals("pixels that are left over", left_over, "They belong to no patch."),
    ),
    hints=(
        "How many patches fit below each other, and how many side by side?",
        "What is learnt before the first layer: a matrix and a bias that make `hidden` numbers of "
        "a patch, the class token, and one vector for the position of each token.",
        "hidden · (R · p · q) + hidden for the patches; hidden for the class token and hidden for "
        "each of the N + 1 positions.",
    ),
)


@exercise.stub
def count_tokens(
    image: tuple[int, int], patch: tuple[int, int], channels: int, hidden: int
) -> tuple[int, int, int]:
    """The tokens of a ViT, and what is learnt before its first layer.

    image and patch: height and width in pixels; what does not fill a whole patch is left out.
    Returns (tokens, numbers in the patches' matrix and bias, numbers in the class token and all
    positions).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    image: tuple[int, int], patch: tuple[int, int], channels: int, hidden: int
) -> tuple[int, int, int]:
    tokens = (image[0] // patch[0]) * (image[1] // patch[1]) + 1
    pixels = channels * patch[0] * patch[1]
    return tokens, hidden * pixels + hidden, hidden + hidden * tokens


@exercise.reference
def by_building_one(
    image: tuple[int, int], patch: tuple[int, int], channels: int, hidden: int
) -> tuple[int, int, int]:
    config = ViTConfig(
        image_size=list(image),
        patch_size=list(patch),
        num_channels=channels,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=1,
    )
    embeddings = ViTModel(config).embeddings
    positions, patches = embeddings.position_embeddings, embeddings.patch_embeddings
    numbers = sum(parameter.numel() for parameter in patches.parameters())
    return positions.shape[1], numbers, positions.numel() + embeddings.cls_token.numel()


exercise.slip(
    "without_class_token",
    "// patch[1]) + 1",
    "// patch[1])",
    "The class token is missing: it is one token more than there are patches.",
)
exercise.slip(
    "as_if_square",
    "(image[0] // patch[0]) * (image[1] // patch[1])",
    "(image[0] // patch[0]) ** 2",
    "The width was taken to be the height: count columns of patches for themselves.",
)
exercise.slip(
    "all_pixels_at_once",
    "(image[0] // patch[0]) * (image[1] // patch[1])",
    "image[0] * image[1] // (patch[0] * patch[1])",
    "The area was divided: pixels that do not fill a whole patch do not add up to one more.",
)
exercise.slip(
    "one_channel",
    "channels * patch[0]",
    "patch[0]",
    "The channels are missing: a patch of an image with R channels has R · p · q numbers.",
)
exercise.slip(
    "no_bias",
    "hidden * pixels + hidden",
    "hidden * pixels",
    "The bias is missing: `hidden` numbers more than the matrix has.",
)
exercise.slip(
    "positions_of_patches_only",
    "hidden + hidden * tokens",
    "hidden * tokens",
    "One vector is missing: the class token is learnt, and it has a position besides.",
)
