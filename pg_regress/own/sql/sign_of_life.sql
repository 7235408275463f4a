-- For ssdlsm alone: the page of the main fork that names the table's rows.
CREATE FUNCTION size(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT pg_relation_size($1)';

-- It is there once there was a row, until VACUUM finds none.
CREATE TABLE sign (a int PRIMARY KEY, b text);
SELECT size('sign');
SELECT count(*) FROM sign;
INSERT INTO sign SELECT i, 'row ' || i FROM generate_series(1, 1000) i;
SELECT size('sign');
BEGIN;
DELETE FROM sign;
ROLLBACK;
VACUUM sign;
SELECT size('sign'), count(*) FROM sign;
DELETE FROM sign;
VACUUM (TRUNCATE off) sign;
SELECT size('sign'), relpages > 0 AS pages, reltuples FROM pg_class WHERE oid = 'sign'::regclass;
VACUUM (INDEX_CLEANUP off) sign;
SELECT size('sign');
VACUUM sign;
SELECT size('sign'), relpages, reltuples FROM pg_class WHERE oid = 'sign'::regclass;
INSERT INTO sign SELECT i, 'again ' || i FROM generate_series(1, 3) i RETURNING ctid, a;
SET enable_seqscan = off;
SELECT ctid, * FROM sign WHERE a IN (2, 3, 4);
RESET enable_seqscan;
BEGIN;
INSERT INTO sign VALUES (4, 'rolled back');
ROLLBACK;
SELECT size('sign'), count(*) FROM sign;
TRUNCATE sign;
SELECT size('sign'), count(*) FROM sign;
BEGIN;
CREATE TABLE fresh (a int);
INSERT INTO fresh VALUES (1);
TRUNCATE fresh;
SELECT size('fresh');
INSERT INTO fresh VALUES (2);
SAVEPOINT s;
TRUNCATE fresh;
INSERT INTO fresh VALUES (3);
ROLLBACK TO s;
INSERT INTO fresh VALUES (4);
COMMIT;
SELECT size('fresh'), array_agg(a ORDER BY a) FROM fresh;

-- Rewrites and moves name the new file.
INSERT INTO sign SELECT i, 'row ' || i FROM generate_series(1, 100) i;
VACUUM FULL sign;
CLUSTER sign USING sign_pkey;
ALTER TABLE sign ALTER COLUMN b TYPE varchar;
ALTER TABLE sign SET UNLOGGED;
ALTER TABLE sign SET LOGGED;
ALTER TABLE sign SET ACCESS METHOD heap;
ALTER TABLE sign SET ACCESS METHOD ssdlsm;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE sign_space LOCATION '';
CREATE TABLE empty_sign (a int);
ALTER TABLE sign SET TABLESPACE sign_space;
ALTER TABLE empty_sign SET TABLESPACE sign_space;
SELECT size('empty_sign'), count(*) FROM empty_sign;
INSERT INTO empty_sign VALUES (1);
SELECT size('sign'), count(*), max(b) FROM sign;
CREATE UNLOGGED TABLE unlogged_sign (a int);
INSERT INTO unlogged_sign VALUES (1);
ALTER TABLE unlogged_sign SET TABLESPACE sign_space;
CREATE TEMP TABLE temp_sign (a int) ON COMMIT DELETE ROWS;
BEGIN;
INSERT INTO temp_sign VALUES (1);
SELECT size('temp_sign'), count(*) FROM temp_sign;
COMMIT;
SELECT size('temp_sign'), count(*) FROM temp_sign;
BEGIN;
INSERT INTO temp_sign VALUES (1), (2);
SELECT size('temp_sign'), count(*) FROM temp_sign;
COMMIT;
\c -
SELECT (SELECT count(*) FROM sign), (SELECT count(*) FROM empty_sign), (SELECT count(*) FROM unlogged_sign);

-- Copies of the database name its own trees.
CREATE TABLE emptied (a int PRIMARY KEY);
INSERT INTO emptied SELECT generate_series(1, 10);
DELETE FROM emptied;
\c postgres
CREATE DATABASE sign_logged TEMPLATE own STRATEGY wal_log;
CREATE DATABASE sign_copied TEMPLATE own STRATEGY file_copy;
\c sign_logged
SELECT (SELECT count(*) FROM sign), (SELECT count(*) FROM empty_sign), (SELECT count(*) FROM unlogged_sign);
INSERT INTO sign VALUES (1000, 'here alone');
INSERT INTO emptied SELECT generate_series(1, 10) RETURNING ctid <= '(0,10)' AS is_old_place;
SELECT size('sign'), count(*), max(b) FROM sign;
\c sign_copied
SELECT (SELECT count(*) FROM sign), (SELECT count(*) FROM empty_sign), (SELECT count(*) FROM unlogged_sign);
SELECT size('sign'), count(*), max(b) FROM sign;
\c own
SELECT size('sign'), count(*), max(b) FROM sign;
DROP DATABASE sign_logged;
DROP DATABASE sign_copied;

-- What a copy of single files leaves behind is an error, and no empty table.
CHECKPOINT;
CREATE FUNCTION put_file(target regclass, contents bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    object oid := lo_from_bytea(0, contents);
BEGIN
    PERFORM lo_export(object, pg_relation_filepath(target));
    PERFORM lo_unlink(object);
END $$;
-- Says why without the numbers of files.
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ': ' || SQLERRM || ' / ' || regexp_replace(why, '\d+', 'N', 'g');
END $$;
CREATE TABLE other (a int);
CREATE TABLE upgraded (a int PRIMARY KEY);
CREATE TABLE strange (a int);
CREATE TABLE torn (a int);
SELECT put_file('other', pg_read_binary_file(pg_relation_filepath('sign')));
-- The number of a file is at 36, its lowest byte first.
SELECT put_file('upgraded', overlay(pg_read_binary_file(pg_relation_filepath('sign')) PLACING
    (SELECT string_agg(substring(number FROM at FOR 1), '' ORDER BY at DESC)
        FROM int4send(pg_relation_filenode('upgraded')::int) number, generate_series(1, 4) at)
    FROM 37 FOR 4));
SELECT put_file('strange', pg_read_binary_file(pg_relation_filepath('pg_class'), 0, 8192));
SELECT put_file('torn', decode(repeat('00', 8192), 'hex'));
\c -
SELECT try('SELECT * FROM other');
SELECT try('SELECT * FROM upgraded');
SELECT try('SELECT * FROM upgraded WHERE a = 1');
SELECT try('INSERT INTO upgraded VALUES (1)');
SELECT try('INSERT INTO upgraded VALUES (1) ON CONFLICT DO NOTHING');
SELECT try('UPDATE upgraded SET a = 1');
SELECT try('ANALYZE upgraded');
SELECT try('CREATE INDEX ON upgraded (a)');
SELECT try('ALTER TABLE upgraded ADD COLUMN b int DEFAULT random()');
SELECT try('SELECT * FROM strange');
\set VERBOSITY terse
VACUUM strange;
\set VERBOSITY default
-- A page that a crash has left empty is as none.
SELECT try('SELECT * FROM torn');
INSERT INTO torn VALUES (1);
SELECT size('torn'), count(*) FROM torn;
-- What is given up can be used again.
TRUNCATE upgraded;
INSERT INTO upgraded VALUES (1);
SELECT * FROM upgraded;
DROP TABLE other, strange;
