"""Reader of Avro's primitives for records that are read by hand: every length lies inside the value."""

from __future__ import annotations


class Cursor:
    """Reads primitives from ``data`` from index ``at`` on. EOFError when cut off, ValueError when out of range."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def long(self) -> int:
        """An Avro long, as ``varint.read_long`` reads it (a test holds them equal).

        Written out: the call would cost 0.1 us per number above 63, and a frame has hundreds.
        """
        data, at = self.data, self.at
        try:
            byte = data[at]
            if byte < 0x80:
                self.at = at + 1
                return (byte >> 1) ^ -(byte & 1)
            z, shift = byte & 0x7F, 7
            while True:
                at += 1
                byte = data[at]
                z |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 63:
                    raise ValueError("a number is longer than 64 bits")
        except IndexError:
            raise EOFError("the record ends inside a number") from None
        if z >> 64:
            raise ValueError("a number is longer than 64 bits")
        self.at = at + 1
        return (z >> 1) ^ -(z & 1)

    def integer(self) -> int:
        """An Avro int."""
        number = self.long()
        if not -(1 << 31) <= number < 1 << 31:
            raise ValueError("a number is larger than 32 bits")
        return number

    def flag(self, true: int) -> bool:
        """One byte that is 0 or ``true``: a boolean, or the branch of a union of null and one more."""
        if self.at >= len(self.data):
            raise EOFError("the record ends before a flag")
        byte = self.data[self.at]
        if byte not in (0, true):
            raise ValueError("a flag is neither false nor true")
        self.at += 1
        return byte == true

    def blob(self) -> bytes:
        """Avro bytes."""
        size = self.long()
        start = self.at
        end = start + size
        if size < 0 or end > len(self.data):
            raise EOFError("a length points beyond the record")
        self.at = end
        return self.data[start:end]

    def string(self) -> str:
        """An Avro string."""
        return self.blob().decode()

    def count(self) -> int:
        """Items of the next array block; 0 ends the array. An item takes at least a byte, so the count is bounded."""
        count = self.long()
        if count == 0:
            return 0
        if count < 0:
            self.long()  # the block's size in bytes, which nothing here skips by
            count = -count
        if count > len(self.data) - self.at:
            raise ValueError("an array claims more items than the record can hold")
        return count
