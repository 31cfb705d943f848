"""Why a batch or an item ended otherwise than in success, where it is not the fault of its input."""

from maskline.jobs import Failure

BROKEN = Failure(
    code="internal_error", message="something went wrong inside the service; its log has the reason"
)
CANCELLED = Failure(code="cancelled", message="the batch was cancelled by its client")
LEFT = Failure(code="batch_left", message="it was not said to be complete, and no more items came for long")
