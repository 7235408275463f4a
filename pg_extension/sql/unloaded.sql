-- A server that has not loaded the library: whatever needs the engine says so, and what to do.
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
SELECT told('CREATE EXTENSION ssdlsm');
SELECT told('CREATE TABLE t (a int) USING ssdlsm');
SELECT told('CREATE TABLE t USING ssdlsm AS SELECT 1 AS a');
SELECT told('CREATE MATERIALIZED VIEW m USING ssdlsm AS SELECT 1 AS a');
CREATE TABLE h (a int);
INSERT INTO h VALUES (1);
SELECT told('ALTER TABLE h SET ACCESS METHOD ssdlsm');
SELECT * FROM h;
SELECT told('SELECT * FROM ssdlsm_stat');
SELECT told('SELECT * FROM ssdlsm_stat_levels');
SELECT told('SELECT ssdlsm_total_size()');
SELECT told('SELECT ssdlsm_table_size(''h'')');
-- Nothing defines the settings.
SELECT told('SHOW ssdlsm.memtable_size');
SELECT told('LOAD ''ssdlsm''');
SELECT told('SHOW ssdlsm.memtable_size');
SELECT told('DROP EXTENSION ssdlsm');
DROP TABLE h;
DROP FUNCTION told(text);
