"""An exception as plain data: captured in the worker, formatted or rebuilt anywhere.

    exception --capture--> ExceptionRecord (JSON) --format_exception--> text, as Python prints it
                                                  --rebuild-----------> exception with a traceback

Guarantees: no exception object, pickle or local variable gets into a record. `capture` does not
raise, whatever the exception's own methods do. Nothing recurses once per frame or per link of a
chain. A record that comes from the database is not trusted: nothing in it is imported, run or
opened as a file, and `check_record` holds it to the same limits as `capture` does.

Assumes that the exception is captured where it was caught, so that the stack is shallow again.
"""
