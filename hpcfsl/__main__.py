"""`python -m hpcfsl`: the command line, for machines where scripts are not on the path. Layer 5."""

from hpcfsl.cli import main

if __name__ == "__main__":
    main()
