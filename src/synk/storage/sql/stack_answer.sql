SELECT q.answer FROM synk.stack_question AS q WHERE q.id = %(id)s
