-- Each wrong use has its SQLSTATE, and says what is wrong and what to do.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION told(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'fine: ' || statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n    ', state || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;
-- Settings.
SELECT told('SET ssdlsm.memtable_size = ''32MB''');
SELECT told('SET ssdlsm.nonsense = 1');
SELECT told('SET ssdlsm.update_in_place = perhaps');
ALTER SYSTEM SET ssdlsm.memtables = 1;
ALTER SYSTEM SET ssdlsm.memtable_size = '1GB1';
ALTER SYSTEM SET ssdlsm.block_cache_size = '100TB';
ALTER SYSTEM SET ssdlsm.compaction_workers = 0;
SELECT name, setting, unit, context, min_val, max_val FROM pg_settings WHERE name LIKE 'ssdlsm.%' ORDER BY name;
-- Options of tables are those of a heap.
SELECT told('CREATE TABLE t (a int) USING ssdlsm WITH (compression = lz4)');
SELECT told('CREATE TABLE t (a int) USING ssdlsm WITH (block_size = 4096)');
SELECT told('CREATE TABLE t (a int) USING ssdlsm WITH (fillfactor = 5)');
CREATE TABLE t (a int, b text) USING ssdlsm WITH (fillfactor = 50);
SELECT told('ALTER TABLE t SET (fillfactor = 101)');
SELECT told('ALTER TABLE t SET (pages_per_range = 4)');
SELECT told('ALTER TABLE t SET (toast.nonsense = 4)');
ALTER TABLE t SET (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off);
SELECT reloptions FROM pg_class WHERE oid = 't'::regclass;
ALTER TABLE t RESET (fillfactor);
SELECT reloptions FROM pg_class WHERE oid = 't'::regclass;
-- Commands.
SELECT told('CREATE TABLE p (a int) PARTITION BY RANGE (a) USING ssdlsm');
SELECT told('CREATE ACCESS METHOD mine TYPE TABLE HANDLER int4in');
SELECT told('DROP ACCESS METHOD ssdlsm');
SELECT told('SELECT ssdlsm_table_size(''pg_class'')');
SELECT told('SELECT ssdlsm_table_size(''nowhere'')');
-- Rows.
INSERT INTO t SELECT g, 'row' FROM generate_series(1, 3) g;
SELECT ctid, a FROM t WHERE ctid = '(0,2)';
SELECT count(*) FROM t WHERE ctid = '(0,65535)' OR ctid = '(4294967295,1)';
SELECT told('SELECT * FROM t WHERE ctid = ''(0,65536)''');
-- A row that no heap takes.
CREATE TABLE broad (a text) USING ssdlsm;
ALTER TABLE broad ALTER a SET STORAGE PLAIN;
SELECT told('INSERT INTO broad VALUES (repeat(''x'', 9000))');
SELECT told('INSERT INTO broad VALUES (repeat(''x'', 8000))');
DROP TABLE t, broad;
DROP FUNCTION told(text);
