"""The application that gunicorn serves; made from the environment."""

import os

from api.application import create_app
from api.services import Services
from maskline.log import configure_logging
from maskline.settings import Settings

settings = Settings.from_env(os.environ)
configure_logging(settings.log_level, settings.log_format, settings.secrets())
app = create_app(Services.from_settings(settings))
