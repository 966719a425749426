"""Stands in for a package that compiles 39 grammars when it is imported, which takes seconds.

jsonschema, and with it nbformat, quilt3 and JupyterLab, imports it for a format that is not used.
"""

raise ImportError("hidden from the tests")
