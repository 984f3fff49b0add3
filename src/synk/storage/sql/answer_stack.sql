UPDATE synk.stack_question AS q SET answer = %(answer)s WHERE q.id = %(id)s
