-- What operators see. CREATE EXTENSION runs this after ssdlsm--0.1.sql.

-- Complain if the script is sourced in psql rather than by ALTER EXTENSION.
\echo Use "ALTER EXTENSION ssdlsm UPDATE TO '0.2'" to load this file. \quit

COMMENT ON FUNCTION ssdlsm_handler(internal) IS 'ssdlsm table access method handler';

-- Sizes. As with pg_relation_size(), everybody may ask for the size of a table, and members of pg_read_all_stats (as is pg_monitor) for
-- what all databases have together.

CREATE FUNCTION ssdlsm_table_size(regclass) RETURNS bigint
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ssdlsm_table_size';
COMMENT ON FUNCTION ssdlsm_table_size(regclass) IS
    'disk space used by the rows of an ssdlsm table, without its indexes and its TOAST table';

CREATE FUNCTION ssdlsm_tree(regclass, OUT level integer, OUT files bigint, OUT bytes bigint, OUT entries bigint)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 5 AS 'MODULE_PATHNAME', 'ssdlsm_tree';
COMMENT ON FUNCTION ssdlsm_tree(regclass) IS
    'the parts of an ssdlsm table in memory (level is null) and in each level that has any of it';

CREATE FUNCTION ssdlsm_total_size() RETURNS bigint
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ssdlsm_total_size';
COMMENT ON FUNCTION ssdlsm_total_size() IS
    'disk space used by all files of ssdlsm, of all databases';

CREATE FUNCTION ssdlsm_levels(OUT level integer, OUT files bigint, OUT bytes bigint, OUT raw_bytes bigint,
        OUT entries bigint, OUT deletes bigint, OUT range_deletes bigint,
        OUT compacting_files bigint, OUT compacting_bytes bigint)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 7 AS 'MODULE_PATHNAME', 'ssdlsm_levels';
COMMENT ON FUNCTION ssdlsm_levels() IS
    'the levels of the tree of files: what is in them, and what of it is being merged';

CREATE FUNCTION ssdlsm_files(OUT level integer, OUT name text, OUT bytes bigint, OUT raw_bytes bigint,
        OUT entries bigint, OUT deletes bigint, OUT range_deletes bigint,
        OUT first_database oid, OUT first_filenode oid, OUT last_database oid, OUT last_filenode oid,
        OUT created timestamptz, OUT compacting boolean)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 100 AS 'MODULE_PATHNAME', 'ssdlsm_files';
COMMENT ON FUNCTION ssdlsm_files() IS
    'the files with rows: which relations they begin and end with, and whether they are being merged';

-- Activity. As with pg_stat_bgwriter, everybody may see it.

CREATE FUNCTION ssdlsm_memtables(OUT number integer, OUT state text, OUT bytes bigint, OUT used bigint,
        OUT entries bigint, OUT start_lsn pg_lsn)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 4 AS 'MODULE_PATHNAME', 'ssdlsm_memtables';
COMMENT ON FUNCTION ssdlsm_memtables() IS
    'the memtables: what each is used for, how full it is, and from where on its rows are in the log';

CREATE FUNCTION ssdlsm_cache(OUT kind text, OUT hits bigint, OUT misses bigint, OUT inserts bigint,
        OUT evictions bigint, OUT no_frame bigint, OUT blocks bigint)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 3 AS 'MODULE_PATHNAME', 'ssdlsm_cache';
COMMENT ON FUNCTION ssdlsm_cache() IS
    'what happened in the cache of blocks, by kind of block, since the shared memory was made';

CREATE FUNCTION ssdlsm_stats(OUT since timestamptz,
        OUT batches bigint, OUT batch_bytes bigint,
        OUT flushes bigint, OUT flush_bytes bigint,
        OUT compactions bigint, OUT compaction_read_bytes bigint, OUT compaction_write_bytes bigint,
        OUT files_moved bigint, OUT files_dropped bigint, OUT files_removed bigint, OUT manifest_bytes bigint,
        OUT memtable_waits bigint, OUT throttle_time double precision, OUT job_errors bigint,
        OUT running_compactions bigint, OUT running_bytes bigint, OUT pending_bytes bigint, OUT l0_runs bigint,
        OUT waiting_memtables bigint, OUT write_rate_limit bigint, OUT disk_free bigint, OUT writes_refused boolean,
        OUT durable_lsn pg_lsn, OUT guardian_armed boolean, OUT writers bigint, OUT cache_bytes bigint)
    RETURNS SETOF record
    LANGUAGE C STRICT VOLATILE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'ssdlsm_stats';
COMMENT ON FUNCTION ssdlsm_stats() IS
    'what the engine has done since the shared memory was made, and what is under way';

-- Views.

CREATE VIEW ssdlsm_stat AS
    SELECT s.*,
        (s.flush_bytes + s.compaction_write_bytes + s.manifest_bytes) / nullif(s.batch_bytes, 0)::double precision
            AS write_amplification
    FROM ssdlsm_stats() s;
COMMENT ON VIEW ssdlsm_stat IS
    'one row: what the engine has done and is doing; write_amplification is bytes of files written for each byte of rows, without the log';

CREATE VIEW ssdlsm_stat_cache AS
    SELECT c.*, c.hits / nullif(c.hits + c.misses, 0)::double precision AS hit_ratio
    FROM ssdlsm_cache() c;
COMMENT ON VIEW ssdlsm_stat_cache IS 'the cache of blocks, by kind of block';

CREATE VIEW ssdlsm_stat_memtables AS
    SELECT * FROM ssdlsm_memtables();
COMMENT ON VIEW ssdlsm_stat_memtables IS 'the memtables';

CREATE VIEW ssdlsm_stat_levels AS
    SELECT l.*, l.bytes / nullif(l.raw_bytes, 0)::double precision AS compression
    FROM ssdlsm_levels() l;
COMMENT ON VIEW ssdlsm_stat_levels IS
    'the levels; compression is bytes in files for each byte of keys and rows';

CREATE VIEW ssdlsm_stat_files AS
    SELECT * FROM ssdlsm_files();
COMMENT ON VIEW ssdlsm_stat_files IS 'the files with rows';

CREATE VIEW ssdlsm_tables AS
    SELECT c.oid AS relid, n.nspname AS schemaname, c.relname,
        ssdlsm_table_size(c.oid) AS row_bytes,
        pg_total_relation_size(c.oid) AS other_bytes
    FROM pg_class c
        JOIN pg_am a ON a.oid = c.relam AND a.amname = 'ssdlsm'
        LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm');
COMMENT ON VIEW ssdlsm_tables IS
    'the ssdlsm tables of this database: bytes of their rows, and of their indexes and TOAST tables';

GRANT SELECT ON ssdlsm_stat, ssdlsm_stat_cache, ssdlsm_stat_memtables, ssdlsm_tables TO PUBLIC;

REVOKE ALL ON FUNCTION ssdlsm_total_size(), ssdlsm_levels(), ssdlsm_files() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ssdlsm_total_size(), ssdlsm_levels(), ssdlsm_files() TO pg_read_all_stats;
GRANT SELECT ON ssdlsm_stat_levels, ssdlsm_stat_files TO pg_read_all_stats;
