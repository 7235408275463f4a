-- What tables, levels and files take. The server has memtables of 1 MB.
CREATE TABLE sized (id int PRIMARY KEY, v text) USING ssdlsm;
CREATE TABLE small (id int, v text) USING ssdlsm;
SELECT ssdlsm_table_size('sized'), ssdlsm_table_size('small');
INSERT INTO small SELECT g, 'few' FROM generate_series(1, 100) g;
SELECT level, files, bytes > 0 AS has_bytes, entries FROM ssdlsm_tree('small');
INSERT INTO sized SELECT g, md5(g::text) FROM generate_series(1, 50000) g;
CHECKPOINT;
-- All is in files now. Entries are estimated in files that other tables share; 50,000 hashes of 32 characters can hardly be compressed.
SELECT sum(files) FILTER (WHERE level IS NULL) AS in_memory, sum(entries) > 20000 AS are_there,
    sum(bytes) BETWEEN 1500000 AND 4000000 AS as_large
FROM ssdlsm_tree('sized');
SELECT ssdlsm_table_size('sized') BETWEEN 1500000 AND 4000000 AS as_large, ssdlsm_total_size() > 1500000 AS all_files;
SELECT ssdlsm_table_size('small') < 100000 AS is_small;
SELECT relid::regclass, schemaname, row_bytes > 1500000 AS has_rows, other_bytes > 1000000 AS has_index
FROM ssdlsm_tables WHERE relname = 'sized';
SELECT level, files >= 0 AS counted, (bytes > 0) = (files > 0) AS bytes, (raw_bytes > 0) = (files > 0) AS raw,
    (entries > 0) = (files > 0) AS entries, compacting_files <= files AS busy
FROM ssdlsm_stat_levels ORDER BY level;
SELECT bool_and(name ~ '^\d+\.sst$') AS names, bool_and(bytes > 0 AND raw_bytes > 0) AS sizes,
    bool_and(created BETWEEN '2020-01-01' AND clock_timestamp() + '1 minute') AS times, sum(entries) > 50000 AS entries
FROM ssdlsm_stat_files;
SELECT count(*) > 0 AS is_in_a_file FROM ssdlsm_stat_files f, pg_database d, pg_class c
WHERE d.datname = current_database() AND c.oid = 'sized'::regclass
    AND (f.first_database IS NULL OR (f.first_database, f.first_filenode) <= (d.oid, c.relfilenode))
    AND (f.last_database, f.last_filenode) >= (d.oid, c.relfilenode);
-- A table in one transaction, a temporary one, an unlogged one, a materialized view, a table that has got new storage.
BEGIN;
CREATE TABLE new_one USING ssdlsm AS SELECT g FROM generate_series(1, 10) g;
SELECT level, files, entries FROM ssdlsm_tree('new_one');
ROLLBACK;
CREATE TEMP TABLE temporary USING ssdlsm AS SELECT g FROM generate_series(1, 10) g;
CREATE UNLOGGED TABLE unlogged USING ssdlsm AS SELECT g FROM generate_series(1, 10) g;
CREATE MATERIALIZED VIEW materialized USING ssdlsm AS SELECT g FROM generate_series(1, 10) g;
SELECT relname, (ssdlsm_tree(oid)).entries FROM pg_class WHERE relname IN ('temporary', 'unlogged', 'materialized') ORDER BY 1;
TRUNCATE sized;
SELECT ssdlsm_table_size('sized');
-- What has no such size.
CREATE TABLE on_heap (a int);
CREATE TABLE divided (a int) PARTITION BY RANGE (a);
SELECT ssdlsm_table_size('on_heap');
SELECT ssdlsm_table_size('divided');
SELECT * FROM ssdlsm_tree('sized_pkey');
SELECT ssdlsm_table_size('ssdlsm_stat');
SELECT ssdlsm_table_size(1) IS NULL AS gone, ssdlsm_table_size(NULL) IS NULL AS nothing;
SELECT * FROM ssdlsm_tree(1);
DROP TABLE sized, small, temporary, unlogged, on_heap, divided;
DROP MATERIALIZED VIEW materialized;
