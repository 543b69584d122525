"""``python -m lntune`` is the command ``lntune``."""

from lntune.cli import main

if __name__ == "__main__":
    main()
