"""The one error type that the command line turns into a sentence."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one sentence or two: what came, what is allowed, what to do. The command-line
    programs print it without a traceback and exit with status 2; any other exception is a fault
    of the program and keeps its traceback.
    """
