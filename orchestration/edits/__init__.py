"""Changes of plans and running graphs: operations are read, carried out on a graph, checked, and told.

May import: nothing; what each file may import stands in its own first lines. `editing.py` is the whole, pure like the
engine whose rules it asks; the façade over it is `orchestration/editor.py`.
"""
