"""``python -m bench``: every figure beside its target."""

from bench import models, png, protocols, reliability, service
from bench.figure import print_figures

print_figures(
    [
        *png.measure(),
        *service.measure(),
        *protocols.measure(),
        *models.measure(),
        *reliability.measure(),
    ]
)
