"""One file or folder for each wire protocol; the folder is the registry.

It has ``make_blueprint(services)`` with its routes. Where its clients read errors from another body than
problem+json, it is an ``api.errors.Dialect`` too, and may have ``STATUSES``: Maskline's status to theirs.
Where they send their key in a way of their own, it is an ``api.authentication.KeyBearer``. One that takes
paths that are nobody else's has ``TAKES_THE_REST``, and its routes are made last.
"""
