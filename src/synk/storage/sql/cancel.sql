SELECT synk.cancel(%(id)s)
