"""The keys of everything that is kept of a batch in the bucket.

    batch-records/{batch}/batch.json               the batch as it was accepted
                         /complete.json            that its client has uploaded everything
                         /cancelled.json           that its client wants it to end
                         /retry-{round}.json       that its failed items are tried anew
                         /end-{round}.json         how it ended
                         /removed.json             that its client deleted it; the rest goes soon
    batches/{batch}/parts/{part}.jsonl             the items
                   /rounds/{round}.jsonl           those that are tried anew
                   /packs/{pack}                   images that its client uploaded, one after the other
                   /predictions/{chunk}-{attempt}.jsonl
                   /errors/{chunk}-{attempt}.jsonl
                   /review/{chunk}-{attempt}.jsonl
                   /ends/{chunk}-{attempt}.json    what came of the chunk
                   /problems/{source}.jsonl        prompts that a source could not give
                   /summary-{round}.json
                   /exports/{round}/{format}.zip

Every key is written once, and never overwritten with other content; but for ``end-{round}``, which is
corrected where the batch did not end so after all.
"""

from enum import StrEnum

from maskline.batches import ChunkKey, Destination, EndedChunk

RECORDS = "batch-records/"
BATCHES = "batches/"


class Shard(StrEnum):
    """The files of a chunk that has ended; the value is the name of their folder."""

    PREDICTIONS = "predictions"
    ERRORS = "errors"
    REVIEW = "review"


def record_key(batch: str, name: str) -> str:
    """Key of one of the documents by which a batch is known."""
    return f"{RECORDS}{batch}/{name}.json"


def batch_of(key: str) -> str:
    """Id of the batch that a key under ``RECORDS`` or ``BATCHES`` is of."""
    return key.split("/", 2)[1]


def folder(batch: str) -> str:
    """What the keys of everything but the records of a batch begin with."""
    return f"{BATCHES}{batch}/"


def part_key(batch: str, part: int) -> str:
    """Key of a part that was uploaded, or made of a source; ``part`` from 1."""
    return f"{folder(batch)}parts/{part:06d}.jsonl"


def round_key(batch: str, number: int) -> str:
    """Key of the part that was made of the items that failed, in the round of this number, from 1."""
    return f"{rounds_folder(batch)}{number:06d}.jsonl"


def rounds_folder(batch: str) -> str:
    """What the keys of the parts of all rounds begin with."""
    return f"{folder(batch)}rounds/"


def parts_folder(batch: str) -> str:
    """What the keys of all parts of a batch begin with."""
    return f"{folder(batch)}parts/"


def problems_key(batch: str, source: int) -> str:
    """Key of what a source, from 1, could not give of its prompts; there is none where it gave all."""
    return f"{problems_folder(batch)}{source:06d}.jsonl"


def problems_folder(batch: str) -> str:
    """What the keys of the problems of all sources begin with."""
    return f"{folder(batch)}problems/"


def pack_key(batch: str, pack: int) -> str:
    """Key of a pack of images; ``pack`` from 1."""
    return f"{folder(batch)}packs/{pack:06d}"


def shard_key(chunk: ChunkKey, shard: Shard) -> str:
    """Key of one of the files of a chunk."""
    return f"{folder(chunk.batch)}{shard}/{chunk.number:06d}-{chunk.attempt}.jsonl"


def lines_in(chunk: EndedChunk, shard: Shard) -> int:
    """How many lines such a file of the chunk has; there is none without."""
    match shard:
        case Shard.PREDICTIONS:
            return chunk.succeeded
        case Shard.ERRORS:
            return chunk.failed
        case Shard.REVIEW:
            return chunk.flagged


def ends_folder(batch: str) -> str:
    """What the keys of the ends of all chunks of a batch begin with."""
    return f"{folder(batch)}ends/"


def chunk_end_key(chunk: ChunkKey) -> str:
    """Key of what came of a chunk."""
    return f"{ends_folder(chunk.batch)}{chunk.number:06d}-{chunk.attempt}.json"


def summary_key(batch: str, rounds: int) -> str:
    """Key of the summary after so many rounds of trying anew."""
    return f"{folder(batch)}summary-{rounds}.json"


def export_key(batch: str, rounds: int, name: str) -> str:
    """Key of an export after so many rounds of trying anew; ``name``: of the archive."""
    return f"{folder(batch)}exports/{rounds}/{name}"


def failed_export_key(batch: str, rounds: int, name: str) -> str:
    """Key of why there is no such export."""
    return f"{export_key(batch, rounds, name)}.failed.json"


def published_key(destination: Destination, shard: Shard, chunk: int) -> str:
    """Key of a chunk's file in the destination's bucket, as Vertex AI names it; ``chunk`` from 1."""
    return f"{destination.prefix}{shard}_{chunk:04d}.jsonl"
