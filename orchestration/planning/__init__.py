"""Makes a DAG of a goal: planners in their order of trust, playbooks, and thoughts about every step."""
