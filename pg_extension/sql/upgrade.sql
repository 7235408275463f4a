-- The extension comes from each version to the newest, and what it has is described.
SELECT e.extversion = a.default_version AS is_newest
FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname WHERE e.extname = 'ssdlsm';
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'ssdlsm' AND d.deptype = 'e' AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_am'::regclass)
    AND obj_description(d.objid, d.classid::regclass::name) IS NULL;
CREATE DATABASE regress_ssdlsm_upgrade TEMPLATE template0;
\c regress_ssdlsm_upgrade
CREATE EXTENSION ssdlsm VERSION '0.1';
\dx+ ssdlsm
CREATE TABLE kept USING ssdlsm AS SELECT g AS a FROM generate_series(1, 10) g;
ALTER EXTENSION ssdlsm UPDATE;
\dx+ ssdlsm
SELECT count(*) FROM kept;
SELECT ssdlsm_table_size('kept') >= 0 AS has_size;
DROP EXTENSION ssdlsm;
DROP TABLE kept;
DROP EXTENSION ssdlsm;
\c extension
DROP DATABASE regress_ssdlsm_upgrade;
