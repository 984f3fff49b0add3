-- Makes a supervisor known, with its first lease.
INSERT INTO synk.client (id, host, pid, version, processes, queues, ttl, lease_until)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(processes)s, %(queues)s, %(ttl)s::interval,
        now() + %(ttl)s::interval)
ON CONFLICT (id) DO NOTHING
