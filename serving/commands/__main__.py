"""The command line as ``python -m serving.commands``, where ``bellwether`` is not installed."""

from serving.commands.app import main

if __name__ == "__main__":
    main()
