"""How gunicorn serves the API: a few processes, each with threads enough for requests that wait."""

import os

from maskline.settings import Settings

_THREADS_FOR_OTHERS = 16  # than those that wait

bind = os.environ.get("MASKLINE_API_BIND", "127.0.0.1:8080")
worker_class = "gthread"
workers = 2
threads = Settings.from_env(os.environ).max_waiters + _THREADS_FOR_OTHERS
# A wait ends within max_wait (60 s by default); gthread's timeout is for a process that hangs as a whole.
timeout = 120
graceful_timeout = 30
keepalive = 75
limit_request_line = 8190  # bytes, the most that gunicorn takes: prompts may come in the query
accesslog = None
control_socket_disable = True
