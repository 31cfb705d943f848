"""Arrays from the files that ``numpy.save`` writes, as JSON, without numpy: the API holds no arrays."""

import ast
import struct
from collections.abc import Iterator, Sequence
from math import prod

_HEADER = struct.Struct("<6sBBH")  # magic, version, length of what follows
_FLOAT32 = "<f4"


def nested_json(npy: bytes) -> Iterator[str]:
    """The array as nested JSON lists, piece by piece; in C order, of float32.

    Raises:
        ValueError: it is another kind of array.
    """
    _, major, _, length = _HEADER.unpack_from(npy)
    header = ast.literal_eval(npy[_HEADER.size : _HEADER.size + length].decode("latin-1"))
    if major != 1 or header["descr"] != _FLOAT32 or header["fortran_order"]:
        raise ValueError(f"an array of {header['descr']} in a file of version {major} can't be read")
    values = memoryview(npy)[_HEADER.size + length :].cast("f")
    yield from _nested(values, header["shape"])


def _nested(values: Sequence[float], shape: Sequence[int]) -> Iterator[str]:
    if len(shape) == 1:
        yield f"[{','.join(f'{value:.9g}' for value in values)}]"
        return
    step = prod(shape[1:])
    for i in range(shape[0]):
        yield "," if i else "["
        yield from _nested(values[i * step : (i + 1) * step], shape[1:])
    yield "]"
