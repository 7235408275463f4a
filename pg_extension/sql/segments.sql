-- A table that would fill more than one file of a heap: its ctids go beyond what its main fork could ever have.
CREATE TABLE long (id int, v text) USING ssdlsm WITH (fillfactor = 10, autovacuum_enabled = off);
INSERT INTO long SELECT g, repeat(md5(g::text), 14) FROM generate_series(1, 131200) g;
SELECT max(ctid) > '(131072,1)' AS beyond FROM long;
ANALYZE long;
SELECT reltuples, relpages > 131072 AS beyond FROM pg_class WHERE oid = 'long'::regclass;
CREATE INDEX ON long (id);
VACUUM ANALYZE long;
SELECT reltuples, relpages > 131072 AS beyond FROM pg_class WHERE oid = 'long'::regclass;
SHOW maintenance_io_concurrency;
-- Nothing is prefetched for a bitmap scan either.
SET enable_seqscan = off;
SET enable_indexscan = off;
EXPLAIN (COSTS OFF) SELECT count(v) FROM long WHERE id > 131000;
SELECT count(v) FROM long WHERE id > 131000;
UPDATE long SET v = 'short' WHERE id > 131000;
SELECT count(v) FROM long WHERE id > 130990 AND length(v) > 5;
SHOW effective_io_concurrency;
-- A tablespace's own setting would make ANALYZE prefetch all the same.
ALTER TABLESPACE pg_default SET (maintenance_io_concurrency = 7);
ANALYZE long;
DO $$ BEGIN
    ANALYZE long;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'not supported';
END $$;
SHOW maintenance_io_concurrency;
ALTER TABLESPACE pg_default RESET (maintenance_io_concurrency);
ANALYZE long;
DROP TABLE long;
SHOW maintenance_io_concurrency;
