"""The command line, one file per group of commands; `main.py` joins them."""
