"""The command `python -m diffjax.tools NAME ...`, which is `diffjax tools NAME ...`."""

from __future__ import annotations

import sys

from diffjax.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "tools")
    main()
