"""``python -m worker.offer [CATALOG]``: as JSON, the models that a worker here would leave out, and why."""

import json
import sys
from pathlib import Path

from maskline.catalog import load_catalog
from worker.registry import left_out


def main() -> None:
    """Print them; ``CATALOG`` is a file over the shipped one."""
    own_file = Path(sys.argv[1]) if sys.argv[1:] else None
    print(json.dumps(left_out(load_catalog(own_file)), indent=2))


if __name__ == "__main__":
    main()
