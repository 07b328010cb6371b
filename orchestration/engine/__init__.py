"""Decides what happens next in an orchestration. Nothing in this room waits, reads a clock, draws or does I/O.

May import: orchestration.{errors, models, dag, expressions}, orchestration.engine.*, stdlib.
"""
