"""``python -m maskline``."""

from maskline.cli import main

main()
