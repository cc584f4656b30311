"""The command `python -m diffjax.serve`."""

from diffjax import cli
from diffjax.serve import run

if __name__ == "__main__":
    cli.main(run)
