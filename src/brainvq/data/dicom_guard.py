"""pydicom, held: what it raises on a broken file becomes a reason and a remedy, and what it says stays unsaid.

Its messages and warnings quote values of the file, a patient's name among them, so none of its words are passed on.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config


class Refused(Exception):
    """ "Reason. Remedy.", to which whoever knows what the thing is called adds its name in front."""


class NotAnImage(Refused):
    """A DICOM object of another kind: a report, a plan, a directory. Nothing is wrong with it."""


@contextmanager
def guarded() -> Iterator[None]:
    """Any exception inside becomes a Refused; values that break the rules of their type are taken as they are."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except Refused:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Refused(f"cannot be read ({error.strerror}). Check the path and its permissions.") from None
    except MemoryError:
        raise Refused("takes more memory than there is. Replace it or remove it.") from None
    except Exception as error:  # pydicom promises no types
        raise Refused(f"broken or cut short ({type(error).__name__}). Replace it or remove it.") from None
    finally:
        logger.setLevel(level)
