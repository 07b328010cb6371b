"""What a process is told from outside: the settings file, the environment, the command line, read once and
checked.

May import: orchestration, yaml, pydantic, platformdirs, stdlib. Only the composition root imports this
package.
"""
