"""What both sides do with artifacts beyond a single call to their store."""

from datetime import date

from maskline.artifacts import EMBEDDINGS, job_prefixes
from maskline.errors import ArtifactNotFound
from maskline.ports import ArtifactStore


def exists(store: ArtifactStore, key: str, *, bucket: str | None = None) -> bool:
    """Whether there is an object of this key.

    Raises:
        ArtifactStoreUnavailable: the store does not answer.
    """
    try:
        store.size(key, bucket=bucket)
    except ArtifactNotFound:
        return False
    return True


def remove_artifacts(store: ArtifactStore, job_id: str) -> None:
    """Delete everything that belongs to a job alone.

    Raises:
        ArtifactStoreUnavailable: the store does not answer; calling again finishes it.
    """
    for prefix in job_prefixes(job_id):
        store.delete(store.keys(prefix))


def remove_embeddings(store: ArtifactStore, before: date) -> None:
    """Delete the embeddings of all days before this one.

    Raises:
        ArtifactStoreUnavailable: the store does not answer; calling again finishes it.
    """
    end = f"{EMBEDDINGS}{before.isoformat()}"
    store.delete(key for key in store.keys(EMBEDDINGS) if key < end)
