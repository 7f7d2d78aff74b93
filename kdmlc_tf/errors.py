"""The error that the command line turns into a sentence, and those that become one."""

import zipfile
import zlib

# What NumPy raises while it reads a .npz file that is damaged, of another form, or none.
UNREADABLE_NPZ = (
    *(OSError, EOFError, AttributeError, KeyError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one sentence or two: what came, what is allowed, what to do. The command-line
    programs print it without a traceback and exit with status 2; any other exception is a fault
    of the program and keeps its traceback.
    """
