"""Derived tables: disposable, rebuilt from the log row for row, and never a judge of who may see.

Rows hold keys and positions, no value of a person: a payload stands once, in the log. A row says from
which position to which it holds, so that the present is just the last position. `hub.views.views` is
the way in; a file beside it for each set of tables.
"""
