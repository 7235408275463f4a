-- Complain if the script is sourced in psql rather than by CREATE EXTENSION.
\echo Use "CREATE EXTENSION ssdlsm" to load this file. \quit

CREATE FUNCTION ssdlsm_handler(internal) RETURNS table_am_handler
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'ssdlsm_handler';

CREATE ACCESS METHOD ssdlsm TYPE TABLE HANDLER ssdlsm_handler;
COMMENT ON ACCESS METHOD ssdlsm IS 'LSM tree table access method';
