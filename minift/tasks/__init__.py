"""Fine-tuning tasks, one file each: labels, head, metric and file format."""

from importlib import import_module
from types import ModuleType

from minift.errors import one_of

TASKS = {"token-classification": "minift.tasks.token_classification"}
ALIASES = {"ner": "token-classification"}


def task(name: str) -> ModuleType:
    """The module of a task, by its name or alias.

    Raises:
        InputError: there is no task of that name.
    """
    name = ALIASES.get(name, name)
    if name not in TASKS:
        raise one_of("task", name, [*TASKS, *ALIASES])
    return import_module(TASKS[name])
