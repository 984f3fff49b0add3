-- Makes a supervisor known, with its first lease.
INSERT INTO synk.client (id, host, pid, version, processes, queues, kinds, ttl, lease_until)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(processes)s, %(queues)s, %(kinds)s::text[],
        %(ttl)s::interval, now() + %(ttl)s::interval)
ON CONFLICT (id) DO NOTHING
