"""`python -m speedprof`, the same as `speedprof`."""

from speedprof.commands import main

main()
