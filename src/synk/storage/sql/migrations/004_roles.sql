-- Four roles with no more rights than their work needs, named after the schema: synk_owner (whose
-- objects these are: migrations), synk_supervisor (runs jobs, and changes them), synk_producer
-- (inserts jobs, and reads none), synk_viewer (reads, and changes nothing). They cannot log in: grant
-- them to the roles that do.

-- What the table's rules do is not in the rights of who inserts a row.
ALTER FUNCTION synk.job_before_insert() SECURITY DEFINER;
ALTER FUNCTION synk.job_link() SECURITY DEFINER;
ALTER FUNCTION synk.job_release_if_ready(bigint, bigint[]) SECURITY DEFINER;
ALTER FUNCTION synk.job_after_end() SECURITY DEFINER;
ALTER FUNCTION synk.job_announce() SECURITY DEFINER;


-- Makes the roles, gives them their rights and the objects to their owner; returns what it could
-- not do. Run it again as a superuser if whoever migrated was not allowed to make roles.
CREATE FUNCTION synk.make_roles() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text := (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n
                   ON n.oid = c.relnamespace WHERE c.oid = 'synk.job'::regclass);
    producer text := quote_ident(place || '_producer');
    supervisor text := quote_ident(place || '_supervisor');
    viewer text := quote_ident(place || '_viewer');
    owner text := quote_ident(place || '_owner');
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[owner, supervisor, producer, viewer] LOOP
        IF to_regrole(each) IS NULL THEN
            BEGIN
                EXECUTE 'CREATE ROLE ' || each || ' NOLOGIN';
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this server was quicker
            END;
        END IF;
    END LOOP;

    place := quote_ident(place);
    EXECUTE 'REVOKE ALL ON SCHEMA ' || place || ' FROM PUBLIC';
    EXECUTE 'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ' || place || ' FROM PUBLIC';
    FOREACH each IN ARRAY ARRAY[supervisor, producer, viewer] LOOP
        EXECUTE 'GRANT USAGE ON SCHEMA ' || place || ' TO ' || each;
        EXECUTE 'GRANT SELECT ON ' || place || '.migration TO ' || each;
    END LOOP;

    EXECUTE 'GRANT INSERT (queue, kind, args, max_attempts, state, scheduled_at, priority, name,'
        ' depends_on, idempotency_key), SELECT (id, idempotency_key), UPDATE (idempotency_key) ON '
        || place || '.job TO ' || producer;

    EXECUTE 'GRANT SELECT ON ' || place || '.job, ' || place || '.client TO ' || viewer;

    EXECUTE 'GRANT ' || producer || ', ' || viewer || ' TO ' || supervisor;
    EXECUTE 'GRANT SELECT, UPDATE, DELETE ON ' || place || '.job TO ' || supervisor;
    EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ' || place || '.client, ' || place
        || '.stack_question TO ' || supervisor;
    EXECUTE 'GRANT SELECT, UPDATE ON ' || place || '.cleaned TO ' || supervisor;
    EXECUTE 'GRANT EXECUTE ON FUNCTION ' || place || '.cancel(bigint), ' || place
        || '.complete(bigint, integer, uuid, bigint, jsonb) TO ' || supervisor;

    BEGIN
        EXECUTE 'GRANT ' || owner || ' TO CURRENT_USER';
        EXECUTE 'GRANT CREATE ON DATABASE ' || quote_ident(current_database()) || ' TO ' || owner;
        FOR each IN
            SELECT 'TABLE ' || c.oid::regclass FROM pg_class AS c
            WHERE c.relnamespace = place::regnamespace AND c.relkind = 'r'
            UNION ALL
            SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc AS p
            WHERE p.pronamespace = place::regnamespace
            UNION ALL
            SELECT 'TYPE ' || t.oid::regtype FROM pg_type AS t
            WHERE t.typnamespace = place::regnamespace AND t.typtype = 'e'
            UNION ALL
            SELECT 'SCHEMA ' || place
        LOOP
            EXECUTE 'ALTER ' || each || ' OWNER TO ' || owner;
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        RETURN 'the objects stay with ' || current_user || ': ' || SQLERRM;
    END;
    RETURN '';
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 'no roles were made: ' || SQLERRM;
END $$;

REVOKE ALL ON FUNCTION synk.make_roles() FROM PUBLIC;

DO $$
DECLARE
    problem text := synk.make_roles();
BEGIN
    IF problem <> '' THEN
        RAISE NOTICE '%; a superuser may run SELECT synk.make_roles()', problem;
    END IF;
END $$;
