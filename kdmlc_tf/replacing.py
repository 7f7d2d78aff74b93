"""A folder or a file that appears whole or not at all, in an earlier one's place or in none."""

import contextlib
import os
import shutil


@contextlib.contextmanager
def replacing(folder, may_replace):
    """Yields an empty folder that takes the place of `folder` at the end.

    Without an end, or where the change of places fails, `folder` is as it was and nothing is left
    beside it.

    Args:
      folder: a pathlib.Path; there may be nothing, an empty folder, or an earlier one.
      may_replace: callable, asked at the end whether what is there by then is to be deleted; if
        not, anything there but an empty folder is an error.

    Raises:
      OSError: a file cannot be written, or something is in the way.
    """
    partial, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if may_replace():
            os.replace(folder, old)
        try:
            os.replace(partial, folder)
        except OSError:
            if old.is_dir():
                os.replace(old, folder)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def replacing_file(path):
    """Yields the path of a file to write, which takes the place of `path` at the end.

    Without an end `path` is as it was and nothing is left beside it, but by a process killed while
    it writes. Of several that write it the last counts.

    Args:
      path: a pathlib.Path in a folder that exists; there may be a file or none.

    Raises:
      OSError: the file cannot be written, or something is in the way.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
