"""The faces of the orchestrator: the MCP server, the command line, and the composition root that wires everything."""
