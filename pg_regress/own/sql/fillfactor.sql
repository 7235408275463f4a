-- Updates of tables with a fillfactor stay in their blocks while there is room, as on a heap's pages.
CREATE TABLE filled (id int, key int, pad text) WITH (fillfactor = 20, autovacuum_enabled = off);
CREATE INDEX filled_key ON filled (key);
INSERT INTO filled SELECT i, i, repeat('x', 600) FROM generate_series(1, 200) i;
CREATE FUNCTION blocks() RETURNS TABLE (first int, rows bigint, blocks bigint) LANGUAGE sql AS $$
    SELECT min(block), count(*), count(DISTINCT block)
        FROM (SELECT ((ctid::text::point)[0])::int AS block FROM filled) b $$;
CREATE TABLE before AS SELECT id, ((ctid::text::point)[0])::int AS block FROM filled;
SELECT * FROM blocks();
UPDATE filled SET key = key + 1000;
SELECT * FROM blocks();
SELECT count(*) FROM filled JOIN before USING (id) WHERE ((filled.ctid::text::point)[0])::int <> before.block;
UPDATE filled SET key = key + 1000;
SELECT * FROM blocks();
-- More than the blocks have room for.
UPDATE filled SET key = key + 1000, pad = repeat('y', 1600);
UPDATE filled SET key = key + 1000;
UPDATE filled SET key = key + 1000;
SET enable_seqscan = off;
SELECT count(*), sum(id), min(key), max(key) FROM filled WHERE key > 0;
RESET enable_seqscan;
SELECT count(*), sum(id), count(DISTINCT id), count(DISTINCT ctid) FROM filled;
-- Short rows use up the slots of a block before its bytes.
CREATE TABLE short_filled (id int, key int) WITH (fillfactor = 50, autovacuum_enabled = off);
CREATE INDEX short_filled_key ON short_filled (key);
INSERT INTO short_filled SELECT i, i FROM generate_series(1, 1000) i;
UPDATE short_filled SET key = key + 1000;
UPDATE short_filled SET key = key + 1000;
SELECT count(*), sum(id), count(DISTINCT id), count(DISTINCT ctid), min(key), max(key) FROM short_filled;
TRUNCATE short_filled;
INSERT INTO short_filled SELECT i, i FROM generate_series(1, 1000) i;
UPDATE short_filled SET key = key + 1000;
SELECT count(*), sum(id), count(DISTINCT id), count(DISTINCT ctid), min(key), max(key) FROM short_filled;
DROP TABLE before;
