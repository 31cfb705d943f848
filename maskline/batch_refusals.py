"""Why a batch store refuses, in the same words over Redis and in memory."""

from maskline.batches import Batch, BatchState
from maskline.errors import BatchClosed, BatchNotFinished, Fault, InvalidRequest, QueueFull, TenantQueueFull


def no_room(most: int) -> QueueFull:
    """``most`` batches go on."""
    return QueueFull(f"{most} batches have not ended yet; try again later")


def no_room_for_tenant(most: int) -> TenantQueueFull:
    """``most`` batches of the tenant go on."""
    return TenantQueueFull(f"{most} of your batches have not ended yet; cancel one, or try again later")


def closed(batch_id: str) -> BatchClosed:
    """The batch takes no more parts."""
    return BatchClosed(f"the batch {batch_id} is complete; make another for more items")


def out_of_turn(part: int, batch: Batch) -> InvalidRequest:
    """The batch lacks parts before this one."""
    message = f"part {part} can't follow part {batch.parts}; the next is {batch.parts + 1}"
    return InvalidRequest([Fault("", message)])


def nothing_to_retry(batch: Batch) -> BatchNotFinished:
    """The batch has no failed items that could be tried anew now."""
    state = batch.progress.state
    if not state.is_final:
        return BatchNotFinished(f"the batch {batch.id} goes on; wait for its end")
    if state is not BatchState.SUCCEEDED:
        return BatchNotFinished(f"the batch {batch.id} has {state}; make another")
    return BatchNotFinished(f"no item of the batch {batch.id} has failed")
