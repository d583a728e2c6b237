"""`python -m kglift` is `kglift`."""

from kglift.cli import main

main()
