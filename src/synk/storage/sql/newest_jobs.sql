        -- The newest jobs in any state, counted; no more than so many, and the one behind them.
        SELECT e.id, e.state, e.queue, e.kind, e.tags, e.created_at, row_number() OVER (ORDER BY e.id DESC) AS n
        FROM synk.job AS e
        ORDER BY e.id DESC
        LIMIT %(searched)s + 1
