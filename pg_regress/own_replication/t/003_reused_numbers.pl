# A database that takes the number of one that was dropped just before has none of its rows, and pg_prewarm finds nothing to warm.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', 'CREATE DATABASE source OID = 50000');
$primary->safe_psql('source', 'CREATE TABLE t (id int, v text); CREATE TABLE none (id int); INSERT INTO t VALUES (1, $$one$$)');
$primary->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE source OID = 50001');
$primary->safe_psql('copy', 'INSERT INTO t SELECT i, $$old$$ FROM generate_series(2, 1000) i; INSERT INTO none VALUES (1)');
$primary->safe_psql('copy', 'UPDATE t SET v = $$changed$$');
is($primary->safe_psql('copy', 'SELECT count(*), min(v) FROM t'), '1000|changed', 'rows of the first copy');
$primary->safe_psql('postgres', 'DROP DATABASE copy');
$primary->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE source OID = 50001');
foreach my $node ($primary, $standby)
{
	$primary->wait_for_catchup($standby);
	my $name = $node->name;
	is($node->safe_psql('copy', 'SELECT id, v FROM t'), '1|one', "$name: rows of the template alone");
	is($node->safe_psql('copy', 'SELECT count(*) FROM none'), '0', "$name: none where the template has none");
}
$primary->safe_psql('copy', 'UPDATE t SET v = $$two$$; INSERT INTO none VALUES (2)');
is($primary->safe_psql('copy', 'SELECT v, (SELECT sum(id) FROM none) FROM t'), 'two|2', 'they can be changed');
$primary->stop('immediate');
$primary->start;
is($primary->safe_psql('copy', 'SELECT v, (SELECT sum(id) FROM none) FROM t'), 'two|2', 'and are so after a crash');

$primary->safe_psql('copy', 'CREATE EXTENSION pg_prewarm');
my $all = 'SELECT sum(pg_prewarm(oid)) > 0 FROM pg_class WHERE pg_relation_filenode(oid) != 0';
is($primary->safe_psql('copy', $all), 't', 'all tables can be warmed');
is($primary->safe_psql('copy', 'SELECT count(*) FROM t'), '1', 'a table is as long as before after that');

$standby->stop;
$primary->stop;
done_testing();
