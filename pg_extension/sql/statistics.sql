-- What is counted: by the engine, and by the server as for a heap.
SELECT batches, batch_bytes, flushes, flush_bytes FROM ssdlsm_stat \gset before_
CREATE TABLE counted (id int PRIMARY KEY, a int, b int) USING ssdlsm WITH (autovacuum_enabled = off);
CREATE INDEX ON counted (a);
INSERT INTO counted SELECT g, g, g FROM generate_series(1, 1000) g;
UPDATE counted SET b = b + 1 WHERE id <= 500;
UPDATE counted SET a = a + 1 WHERE id <= 100;
DELETE FROM counted WHERE id > 950;
BEGIN;
INSERT INTO counted SELECT g, g, g FROM generate_series(2001, 2010) g;
ROLLBACK;
SELECT pg_stat_force_next_flush();
SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, n_live_tup, n_dead_tup, n_mod_since_analyze
FROM pg_stat_user_tables WHERE relname = 'counted';
-- ANALYZE finds the dead rows that VACUUM will be asked for; VACUUM leaves none.
ANALYZE counted;
SELECT n_live_tup, n_dead_tup, n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 'counted';
BEGIN;
DELETE FROM counted WHERE id <= 10;
ANALYZE counted;
COMMIT;
SELECT pg_stat_force_next_flush();
SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'counted';
VACUUM counted;
SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'counted';
-- Scans.
SELECT pg_stat_reset_single_table_counters('counted'::regclass);
SELECT count(*) FROM counted;
SET enable_seqscan = off;
SELECT id FROM counted WHERE id = 77;
RESET enable_seqscan;
CREATE INDEX ON counted (b);
SELECT pg_stat_force_next_flush();
SELECT seq_scan, seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'counted';
SELECT heap_blks_hit > 0 AS hits FROM pg_statio_user_tables WHERE relname = 'counted';
-- A table that is larger than the cache (4 MB) is read from files.
CREATE TABLE wide (id int, v text) USING ssdlsm;
INSERT INTO wide SELECT g, (SELECT string_agg(md5((g * 20 + i)::text), '') FROM generate_series(1, 20) i) FROM generate_series(1, 20000) g;
CHECKPOINT;
SELECT count(v) FROM wide;
SELECT pg_stat_force_next_flush();
SELECT heap_blks_read BETWEEN 300 AND 20000 AS reads FROM pg_statio_user_tables WHERE relname = 'wide';
-- The engine's own counters.
SELECT batches > :before_batches AS batches, batch_bytes > :before_batch_bytes + 10000000 AS batch_bytes,
    flushes > :before_flushes AS flushes, flush_bytes > :before_flush_bytes AS flush_bytes,
    write_amplification BETWEEN 0.1 AND 50 AS amplification, since < now() AS since, job_errors,
    throttle_time >= 0 AS throttled, disk_free > 0 AS disk_free, writes_refused, guardian_armed, writers > 0 AS writers,
    durable_lsn <= pg_current_wal_insert_lsn() AS durable, cache_bytes
FROM ssdlsm_stat;
SELECT kind, hits >= 0 AND misses >= 0 AS counted, inserts - evictions = blocks AS held, hit_ratio BETWEEN 0 AND 1 AS ratio
FROM ssdlsm_stat_cache;
SELECT count(*), count(*) FILTER (WHERE state = 'active') AS active, bool_and(used <= bytes) AS fits,
    bool_and(bytes > 1000000) AS sizes, bool_and(start_lsn <= pg_current_wal_insert_lsn()) AS starts
FROM ssdlsm_stat_memtables;
-- Progress, as an index's expression finds it.
CREATE FUNCTION watched(id int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE seen record;
BEGIN
    IF id = 15000 THEN
        SELECT command, phase, blocks_total > 100 AS total, blocks_done BETWEEN 50 AND blocks_total AS done INTO seen
        FROM pg_stat_progress_create_index WHERE pid = pg_backend_pid();
        IF FOUND THEN
            RAISE NOTICE 'create index: %', seen;
        END IF;
        SELECT command, phase, heap_tuples_scanned, heap_tuples_written, heap_blks_total > 100 AS total,
            heap_blks_scanned = heap_blks_total AS scanned INTO seen
        FROM pg_stat_progress_cluster WHERE pid = pg_backend_pid();
        IF FOUND THEN
            RAISE NOTICE 'rewrite: %', seen;
        END IF;
    END IF;
    RETURN id;
END $$;
SET max_parallel_maintenance_workers = 0;
CREATE INDEX wide_watched ON wide (watched(id));
REINDEX INDEX CONCURRENTLY wide_watched;
VACUUM FULL wide;
CLUSTER wide USING wide_watched;
DROP TABLE wide, counted;
DROP FUNCTION watched(int);
