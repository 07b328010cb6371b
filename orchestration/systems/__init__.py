"""Where tasks run: systems of several kinds behind the one port `orchestration.ports.System`."""
