# A subscriber without an index to look rows up with waits for whoever is writing them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->start;

my $rows = "INSERT INTO f SELECT i, 'v' || i FROM generate_series(1, 9) i;";
$publisher->safe_psql('postgres', "CREATE TABLE f (id int, v text); ALTER TABLE f REPLICA IDENTITY FULL; $rows");
$publisher->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE f');
$subscriber->safe_psql('postgres', 'CREATE TABLE f (id int, v text)');
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
$subscriber->wait_for_subscription_sync($publisher, 's');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM f'), '9', 'rows were copied');

my $session = $subscriber->background_psql('postgres');

sub apply_waits
{
	return $subscriber->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
		  . "WHERE NOT l.granted AND l.locktype = 'transactionid' AND a.backend_type = 'logical replication worker'");
}

sub rows_are
{
	my ($expected, $what) = @_;
	$publisher->wait_for_catchup('s');
	is($subscriber->safe_psql('postgres', "SELECT string_agg(id || v, ' ' ORDER BY id) FROM f WHERE id < 5 OR id > 9"),
		$expected, $what);
	return;
}

# Somebody is changing the row, and takes it back.
$session->query_safe("BEGIN; UPDATE f SET v = 'mine' WHERE id = 1;");
$publisher->safe_psql('postgres', "UPDATE f SET v = 'published' WHERE id = 1");
ok(apply_waits(), 'an update waits for an update');
$session->query_safe('ROLLBACK;');
rows_are('1published 2v2 3v3 4v4', 'it is carried out when that was rolled back');

# Somebody is deleting the row, and does.
$session->query_safe('BEGIN; DELETE FROM f WHERE id = 2;');
$publisher->safe_psql('postgres', "UPDATE f SET v = 'published' WHERE id = 2");
ok(apply_waits(), 'an update waits for a delete');
$session->query_safe('COMMIT;');
rows_are('1published 3v3 4v4', 'there is nothing to update');

# Somebody is inserting the row.
$subscriber->safe_psql('postgres', 'DELETE FROM f WHERE id = 3');
$session->query_safe("BEGIN; INSERT INTO f VALUES (3, 'v3');");
$publisher->safe_psql('postgres', 'DELETE FROM f WHERE id = 3');
ok(apply_waits(), 'a delete waits for an insert');
$session->query_safe('COMMIT;');
rows_are('1published 4v4', 'the row that was inserted is deleted');

# Somebody is changing another row to be like it.
$subscriber->safe_psql('postgres', "UPDATE f SET v = 'other' WHERE id = 4");
$session->query_safe("BEGIN; UPDATE f SET v = 'v4' WHERE id = 4;");
$publisher->safe_psql('postgres', "UPDATE f SET v = 'published' WHERE id = 4");
ok(apply_waits(), 'an update waits for an update that makes its row');
$session->query_safe('COMMIT;');
rows_are('1published 4published', 'it finds that row');

$session->quit;
$subscriber->stop;
$publisher->stop;
done_testing();
