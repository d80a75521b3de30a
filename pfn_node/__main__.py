"""`python -m pfn_node` is `pfn`."""

from pfn_node.cli import main

if __name__ == "__main__":
    main()
