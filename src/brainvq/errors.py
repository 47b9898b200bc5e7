"""The one exception that a user can mend: bad files, bad keys, parts that do not fit together.

The command line prints it on stderr without a traceback and exits with code 2. Everything else that is raised is our
own mistake and keeps its traceback.
"""


class InputError(ValueError):
    """What was given, what was expected, what to do."""


def printable(text: str) -> str:
    """For a screen or a picture: names of files may hold what a terminal would obey, or what is no text at all."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, noun: str) -> str:
    """ "1 subject", "2 subjects": for messages and tables."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the machine or of a device, however that was raised."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )
