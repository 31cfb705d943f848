"""Masks as Label Studio's brush writes them.

The form is that of ``@thi.ng/rle-pack``, over an image's pixels row by row with four bytes each: red, green,
blue and alpha. ``label_studio_sdk.converter.brush`` reads and writes the same.
"""

from collections.abc import Iterator

from maskline.run_lengths import RunLengthMask

_CHANNELS = 4
_LENGTH_BITS = (3, 4, 8, 16)  # of a run, in the four widths that a stream may choose
_WORD_BITS = 8
_LONGEST = 1 << _LENGTH_BITS[-1]
_OFF, _ON = f"{0:08b}", f"{255:08b}"
_SHORT = 1 << _LENGTH_BITS[-2]


def to_brush(mask: RunLengthMask) -> list[int]:
    """The bytes of a brush's stream, which is 255 in each channel of the mask's pixels, and 0 elsewhere.

    Written in Python alone, for who needs it has no numpy; it takes time in proportion to the length of the
    mask's outline, and not to its area.

    Raises:
        ValueError: the mask's run lengths are wrong.
    """
    height, width = mask.size
    sizes = "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    parts = [f"{height * width * _CHANNELS:032b}{_WORD_BITS - 1:05b}{sizes}"]
    begin, value, other = 0, _OFF, _ON
    for end in _changes_by_row(mask):
        if end > begin:
            parts += _runs((end - begin) * _CHANNELS, value)
        begin, value, other = end, other, value
    bits = "".join(parts)
    size = -(-len(bits) // 8)
    return list(int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big"))


def _runs(length: int, value: str) -> Iterator[str]:
    """A run as the stream has it: its mark, which width its length has, its length less one, its value."""
    while length > _LONGEST:
        yield f"111{_LONGEST - 1:016b}{value}"
        length -= _LONGEST
    if length > _SHORT:
        yield f"111{length - 1:016b}{value}"
    elif length > 16:
        yield f"110{length - 1:08b}{value}"
    elif length > 8:
        yield f"101{length - 1:04b}{value}"
    else:
        yield f"100{length - 1:03b}{value}"


def _changes_by_row(mask: RunLengthMask) -> list[int]:
    """Where the mask begins and ends in turn, counted in pixels row by row; at last the number of pixels.

    The first is where it begins, be it at 0. Two neighbouring columns differ in the rows between the places
    where exactly one of them changes: there the mask begins or ends in its row.
    """
    height, width = mask.size
    rows: list[list[int]] = [[] for _ in range(height)]
    before: set[int] = set()
    for x, column in _changes_by_column(mask):
        differing = sorted(before ^ column)
        for top, bottom in zip(differing[::2], differing[1::2], strict=True):
            for row in rows[top:bottom]:
                row.append(x)
        before = column
    changes: list[int] = []
    for y, row in enumerate(rows):
        if len(row) % 2:
            row.append(width)
        for x in row:
            place = y * width + x
            if changes and changes[-1] == place:  # it goes on in the next row
                changes.pop()
            else:
                changes.append(place)
    if not changes or changes[-1] != height * width:
        changes.append(height * width)
    return changes


def _changes_by_column(mask: RunLengthMask) -> Iterator[tuple[int, set[int]]]:
    """For each column that is not as the one before: where it is, and the rows where the mask begins or ends
    in it, of which there are an even number."""
    height, width = mask.size
    columns: dict[int, set[int]] = {}
    place = 0
    is_on = False
    for length in mask.run_lengths():
        if is_on and length:
            _add(columns, height, place, place + length)
        place += length
        is_on = not is_on
    empty: set[int] = set()
    before = empty
    for x in range(width):
        column = columns.get(x, empty)
        if column != before:
            yield x, column
        before = column


def _add(columns: dict[int, set[int]], height: int, begin: int, end: int) -> None:
    """Add a run, which goes down one column and may go on from the top of the next."""
    for x in range(begin // height, (end - 1) // height + 1):
        top, bottom = max(begin - x * height, 0), min(end - x * height, height)
        # A run that follows upon another without a gap continues it.
        columns[x] = columns.get(x, set()) ^ {top, bottom}
