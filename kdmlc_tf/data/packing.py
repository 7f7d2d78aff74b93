"""Many short texts as one array of bytes: a million paths in the memory of their characters."""

import itertools

import numpy as np

_AT_ONCE = 65_536


def pack(texts):
    """The texts as an array; at no time are more than 65,536 of them held as Python objects.

    Args:
      texts: iterable of bytes, or of str, which become UTF-8 (a file's name: the bytes it has).

    Returns:
      Array [n] of numpy's fixed-width bytes, as wide as the longest text.

    >>> pack(["a/1.jpg", b"b"]).tolist()
    [b'a/1.jpg', b'b']
    """
    texts, parts = iter(texts), []
    while some := [_bytes(text) for text in itertools.islice(texts, _AT_ONCE)]:
        parts.append(np.array(some, dtype=np.bytes_))
    return np.concatenate(parts) if parts else np.zeros(0, "S1")


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
