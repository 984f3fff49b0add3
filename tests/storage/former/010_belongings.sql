-- What is synk's belongs to synk's owner, and nothing else does. A function of before, make_roles(),
-- gave all that the schema held to that owner: what is not synk's goes to the owner of the database,
-- where that is allowed.

-- With the rights of who calls them, they do nothing that the caller might not do without them.
GRANT EXECUTE ON FUNCTION synk.cancel(bigint),
    synk.complete(bigint, integer, uuid, bigint, jsonb) TO PUBLIC;

-- Those that have the owner's rights are for the table's triggers alone.
REVOKE ALL ON FUNCTION synk.job_before_insert(), synk.job_link(), synk.job_after_end(),
    synk.job_announce() FROM PUBLIC;

DO $$
DECLARE
    place regnamespace := (SELECT c.relnamespace FROM pg_class AS c
                           WHERE c.oid = 'synk.job'::regclass);
    taker regrole := (SELECT n.nspowner FROM pg_namespace AS n WHERE n.oid = place
                      AND pg_get_userbyid(n.nspowner) = n.nspname || '_owner');
    giver text := (SELECT quote_ident(pg_get_userbyid(d.datdba)) FROM pg_database AS d
                   WHERE d.datname = current_database());
    others text[];
    each text;
BEGIN
    IF to_regprocedure('synk.make_roles()') IS NULL THEN
        RETURN;
    END IF;
    DROP FUNCTION synk.make_roles();
    IF taker IS NULL THEN
        RETURN;
    END IF;

    SELECT array_agg(o.name) INTO others FROM (
        SELECT 'TABLE ' || c.oid::regclass AS name FROM pg_class AS c
        WHERE c.relnamespace = place AND c.relkind = 'r' AND c.relowner = taker
          AND c.relname NOT IN ('migration', 'job', 'cleaned', 'client', 'stack_question', 'link')
        UNION ALL
        SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = place AND p.proowner = taker AND p.oid NOT IN (
            'synk.cancel(bigint)'::regprocedure,
            'synk.complete(bigint, integer, uuid, bigint, jsonb)'::regprocedure,
            'synk.job_before_insert()'::regprocedure, 'synk.job_link()'::regprocedure,
            'synk.job_after_end()'::regprocedure, 'synk.job_announce()'::regprocedure,
            'synk.job_depends()'::regprocedure, 'synk.job_release(bigint[])'::regprocedure,
            'synk.job_sweep(bigint[])'::regprocedure,
            'synk.job_depends_on_is_fixed()'::regprocedure)
        UNION ALL
        SELECT 'TYPE ' || t.oid::regtype FROM pg_type AS t
        WHERE t.typnamespace = place AND t.typtype = 'e' AND t.typowner = taker
          AND t.typname NOT IN ('job_state', 'cancel_reason')
    ) AS o;
    IF others IS NULL AND place <> 'public'::regnamespace THEN
        INSERT INTO synk.migration (version, name) VALUES (0, 'schema') ON CONFLICT DO NOTHING;
        RETURN;
    END IF;

    FOREACH each IN ARRAY coalesce(others, '{}') LOOP
        EXECUTE 'ALTER ' || each || ' OWNER TO ' || giver;
        IF each LIKE 'FUNCTION %' THEN
            EXECUTE 'GRANT EXECUTE ON ' || each || ' TO PUBLIC';
        END IF;
    END LOOP;
    EXECUTE format('ALTER SCHEMA %s OWNER TO %s', place, CASE
        WHEN place = 'public'::regnamespace THEN 'pg_database_owner' ELSE giver END);
    IF place = 'public'::regnamespace THEN
        GRANT USAGE ON SCHEMA public TO PUBLIC;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'what else is in schema % belongs to %, and stays so: %', place, taker, SQLERRM;
END $$;
