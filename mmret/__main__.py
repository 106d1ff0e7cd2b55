"""`python -m mmret` is the command `mmret`."""

from mmret.cli import main

raise SystemExit(main())
