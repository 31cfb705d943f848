"""``python -m worker.health``: exit status 0 while the worker of this container gives signs of life."""

import os
import socket
import sys

from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.errors import JobStoreUnavailable
from maskline.settings import Settings, SettingsError


def main() -> None:
    """Look once."""
    try:
        settings = Settings.from_env(os.environ)
        directory = RedisModelDirectory(RedisConnection(settings.redis_url, settings.redis_prefix))
        alive = directory.alive()
    except (SettingsError, JobStoreUnavailable) as error:
        sys.exit(str(error))
    if not any(name.startswith(f"{socket.gethostname()}-") for name in alive):
        sys.exit("no worker of this host gives signs of life")


if __name__ == "__main__":
    main()
