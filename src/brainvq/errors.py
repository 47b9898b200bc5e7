"""The one exception that a user can mend: bad files, bad keys, parts that do not fit together.

The command line prints it on stderr without a traceback and exits with code 2. Everything else that is raised is our
own mistake and keeps its traceback.
"""


class InputError(ValueError):
    """What was given, what was expected, what to do."""
