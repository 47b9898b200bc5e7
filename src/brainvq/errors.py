"""The one exception that a user can mend: bad files, bad keys, parts that do not fit together.

The command line prints it on stderr without a traceback and exits with code 2. Everything else that is raised is our
own mistake and keeps its traceback.
"""


class InputError(ValueError):
    """What was given, what was expected, what to do."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the machine or of a device, however that was raised."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )
