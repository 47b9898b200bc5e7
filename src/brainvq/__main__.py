"""`python -m brainvq` is `brainvq`."""

from brainvq.cli import main

main()
