-- What the background processes say of themselves.
CREATE TABLE busy USING ssdlsm AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 50000) g;
CHECKPOINT;
SELECT backend_type, count(*), bool_and(state IN ('idle', 'active')) AS have_state, bool_and(datname IS NULL) AS no_database
FROM pg_stat_activity WHERE backend_type LIKE 'ssdlsm%' GROUP BY 1 ORDER BY 1;
SELECT query ~ '^(holding a checkpoint until all before [0-9A-F]+/[0-9A-F]+ is in files|flushing a memtable of \d+ [kM]B)$' AS tells
FROM pg_stat_activity WHERE backend_type = 'ssdlsm guardian';
DROP TABLE busy;
