SELECT synk.retry(%(id)s)
