"""The bytes of a file one after another, inflated where it is gzip (RFC 1952), and never more of them than asked for.

A small gzip file may inflate to a thousand times its size, so a reader says how much it wants before anything is
inflated. zlib compares the checksum and the length at the end of each gzip member; members follow each other in files
of several threads (pigz -i, bgzip). Bytes after the last member are left alone, as gzip does.
"""

import zlib
from collections.abc import Iterator
from typing import IO

PIECE = 1 << 16  # bytes read, and inflated, at once
MOST_INFLATED = 1032  # a byte of deflate gives at most so many: 258 of them for two bits
GZIP = 31  # zlib's word for "gzip, with its header and checksum"


class Stream:
    """A file from its beginning.

    Raises EOFError where a gzip file ends before its checksum, zlib.error where it is broken; OSError.
    """

    def __init__(self, file: IO[bytes], *, inflate: bool) -> None:
        self._pieces = _inflated(file) if inflate else iter(lambda: file.read(PIECE), b"")
        self._rest = b""

    def fill(self, buffer: memoryview) -> int:
        """How many bytes of `buffer` there were in the file; fewer than it has only at the end of the file."""
        filled = 0
        while filled < len(buffer) and (piece := self._rest or next(self._pieces, b"")):
            taken = min(len(piece), len(buffer) - filled)
            buffer[filled : filled + taken] = piece[:taken]
            self._rest = piece[taken:]
            filled += taken
        return filled

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, or to the end of the file."""
        scratch = memoryview(bytearray(PIECE))
        while count > 0 and (passed := self.fill(scratch[:count])):
            count -= passed


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    """Non-empty pieces of all members."""
    data = file.read(PIECE)
    member = zlib.decompressobj(GZIP)
    while True:
        if member.eof:
            data = member.unused_data or file.read(PIECE)
            data += file.read(1) if len(data) == 1 else b""
            if data[:2] != b"\x1f\x8b":
                return
            member = zlib.decompressobj(GZIP)
        elif not data:
            raise EOFError("the gzip stream ends too early")
        if piece := member.decompress(data, PIECE):
            yield piece
        data = member.unconsumed_tail or (b"" if member.eof else file.read(PIECE))
