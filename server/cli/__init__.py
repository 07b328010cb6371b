"""The command line `advanced-orchestration`: parsing and wiring, one module per family of commands; no logic
of its own.

May import: orchestration, config, server.composition, rich, stdlib, all but argparse late: `--help` must be
fast.
"""
