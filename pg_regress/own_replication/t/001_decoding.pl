# The same statements on a table of the default access method and on a heap table must be decoded to the same changes.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('publisher');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 4\nlogical_decoding_work_mem = 64kB\n");
$node->start;

my $wide = "(SELECT string_agg(md5(i::text), '') FROM generate_series(%d, %d + 400) i)";
my ($wide_1, $wide_2) = map { sprintf $wide, $_, $_ } (1, 5000);

# Words that do not compress, for row i.
my $words = "(SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 200) j)";

# Runs statements on each table in turn, with its name for T.
sub both
{
	my ($sql) = @_;
	foreach my $table ('mine', 'theirs')
	{
		(my $text = $sql) =~ s/\bT(?![A-Za-z0-9])/$table/g;
		$node->safe_psql('postgres', $text);
	}
}

# What was decoded since the last time, for each table, without the frames of transactions and its name.
sub decoded
{
	my @lines = split /\n/, $node->safe_psql('postgres',
		"SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')");
	my %changes = (mine => [], theirs => []);
	foreach my $line (@lines)
	{
		next unless $line =~ /^table public\.(mine|theirs)(_p\d)?: (.*)$/;
		push @{ $changes{$1} }, ($2 // '') . " $3";
	}
	return \%changes;
}

sub same
{
	my ($what, $count) = @_;
	my $changes = decoded();
	is_deeply($changes->{mine}, $changes->{theirs}, "$what: decoded as a heap's");
	is(scalar @{ $changes->{theirs} }, $count, "$what: $count changes");
	return $changes->{mine};
}

$node->safe_psql('postgres',
	'CREATE TABLE mine (id int PRIMARY KEY, k int NOT NULL, v text, w text);'
	  . 'CREATE TABLE theirs (id int PRIMARY KEY, k int NOT NULL, v text, w text) USING heap;'
	  . 'CREATE UNIQUE INDEX mine_k ON mine (k); CREATE UNIQUE INDEX theirs_k ON theirs (k);');
$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('s', 'test_decoding')");

both("INSERT INTO T VALUES (1, 10, 'one', NULL); INSERT INTO T VALUES (2, 20, 'two', 'x'), (3, 30, NULL, 'y');");
same('inserts', 3);
both("UPDATE T SET v = 'eins' WHERE id = 1; UPDATE T SET id = 11 WHERE id = 1; UPDATE T SET k = 31 WHERE id = 3;");
same('updates', 3);
both("DELETE FROM T WHERE id = 2; DELETE FROM T WHERE id = 11;");
same('deletes', 2);
both("INSERT INTO T VALUES (3, 1, 'c') ON CONFLICT DO NOTHING; "
	  . "INSERT INTO T VALUES (3, 1, 'd') ON CONFLICT (id) DO UPDATE SET v = excluded.v; "
	  . "INSERT INTO T VALUES (4, 40, 'new') ON CONFLICT (id) DO UPDATE SET v = 'no';");
same('ON CONFLICT', 2);
both("COPY T FROM PROGRAM 'for i in 100 101 102 103 104; do echo \$i,\$i,copied,; done' WITH (FORMAT csv)");
same('COPY', 5);
both("INSERT INTO T SELECT i, i, repeat('r', 300), NULL FROM generate_series(1000, 2999) i");
same('many', 2000);

# Wide values: new, kept, replaced; and as part of a large statement and of what is only tried.
both("INSERT INTO T VALUES (5, 50, $wide_1, 'w'); UPDATE T SET w = 'kept' WHERE id = 5; "
	  . "UPDATE T SET v = $wide_2 WHERE id = 5; UPDATE T SET id = 6 WHERE id = 5; DELETE FROM T WHERE id = 6;");
my $toasted = same('wide values', 5);
like($toasted->[1], qr/unchanged-toast-datum/, 'a wide value that is kept is not sent again');
like($toasted->[2], qr/[0-9a-f]{10000}/, 'a new one is');
both("INSERT INTO T SELECT i, i, $wide_1, $wide_2 FROM generate_series(200, 220) i "
	  . "ON CONFLICT (k) DO UPDATE SET v = $wide_2");
same('wide values, tried', 21);
both("COPY (SELECT 300 + i, 300 + i, $words, 'w' || $words FROM generate_series(1, 60) i) "
	  . "TO '" . $node->data_dir . "/wide.copy'; COPY T FROM '" . $node->data_dir . "/wide.copy';");
same('wide values, copied', 60);

# Savepoints, and ends of transactions.
both("BEGIN; INSERT INTO T VALUES (7, 70); SAVEPOINT a; INSERT INTO T VALUES (8, 80); ROLLBACK TO a; "
	  . "SAVEPOINT b; UPDATE T SET v = 'b' WHERE id = 7; RELEASE b; INSERT INTO T VALUES (9, 90); COMMIT;");
same('savepoints', 3);
both("BEGIN; INSERT INTO T VALUES (70, 700); ROLLBACK;");
same('a rollback', 0);
both("BEGIN; UPDATE T SET v = 'prepared' WHERE id = 7; PREPARE TRANSACTION 'T'; COMMIT PREPARED 'T';");
same('two phases', 1);
both("BEGIN; SAVEPOINT s; UPDATE T SET v = 'gone' WHERE id = 7; ROLLBACK TO s; UPDATE T SET v = 'stays' WHERE id = 7; COMMIT;");
same('an update after one that was taken back', 1);

# What the replica identity keeps.
both("ALTER TABLE T REPLICA IDENTITY FULL; UPDATE T SET v = 'full' WHERE id = 7; DELETE FROM T WHERE id = 8; "
	  . "UPDATE T SET k = 71 WHERE id = 7; DELETE FROM T WHERE id = 9; DELETE FROM T WHERE id = 200;");
same('REPLICA IDENTITY FULL', 4);
both("ALTER TABLE T REPLICA IDENTITY USING INDEX T_k; UPDATE T SET v = 'i' WHERE id = 7; UPDATE T SET k = 72 WHERE id = 7; "
	  . "UPDATE T SET id = 77 WHERE id = 7; DELETE FROM T WHERE id = 77;");
same('REPLICA IDENTITY USING INDEX', 4);
both("ALTER TABLE T REPLICA IDENTITY NOTHING; UPDATE T SET id = 40 WHERE id = 4; DELETE FROM T WHERE id = 40;");
same('REPLICA IDENTITY NOTHING', 2);
both("ALTER TABLE T REPLICA IDENTITY DEFAULT");
decoded();

# Definitions that change between and inside of transactions.
both("ALTER TABLE T ADD COLUMN d int DEFAULT 5; UPDATE T SET w = 'd' WHERE id = 3; ALTER TABLE T DROP COLUMN w; "
	  . "UPDATE T SET v = 'e' WHERE id = 3; INSERT INTO T VALUES (12, 120, 'f', 6);");
same('columns', 3);
both("DELETE FROM T WHERE id > 100");
is(scalar @{ decoded()->{mine} }, 2000 + 4 + 21 - 1 + 60, 'deletes of many rows');
both("BEGIN; INSERT INTO T VALUES (13, 130); ALTER TABLE T ALTER k TYPE bigint; INSERT INTO T VALUES (14, 140); COMMIT;");
same('a rewrite', 2);
both("VACUUM FULL T"); both("CLUSTER T USING T_pkey"); both("VACUUM T");
same('what only moves rows', 0);
both("BEGIN; TRUNCATE T; INSERT INTO T VALUES (15, 150); COMMIT;");
same('TRUNCATE', 2);
both("CREATE TEMP TABLE t2 (a int); INSERT INTO t2 VALUES (1); CREATE UNLOGGED TABLE T_p3 (a int); INSERT INTO T_p3 VALUES (1); DROP TABLE T_p3");
same('tables that are not logged', 0);

# Rows that go to another partition.
$node->safe_psql('postgres', 'DROP TABLE mine, theirs');
foreach my $pair (['mine', ''], ['theirs', 'USING heap'])
{
	my ($name, $using) = @$pair;
	$node->safe_psql('postgres',
		"CREATE TABLE $name (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
		  . "CREATE TABLE ${name}_p1 PARTITION OF $name FOR VALUES FROM (0) TO (10) $using;"
		  . "CREATE TABLE ${name}_p2 PARTITION OF $name FOR VALUES FROM (10) TO (20) $using;");
}
both("INSERT INTO T VALUES (1, 'a'), (11, 'b'); UPDATE T SET id = 12 WHERE id = 1; UPDATE T SET id = 13 WHERE id = 12;");
same('partitions', 5);

# A crash between what was decoded and what is; how far that has come is on disk with the next checkpoint.
$node->safe_psql('postgres', 'CHECKPOINT');
both("INSERT INTO T VALUES (2, 'before')");
$node->stop('immediate');
$node->start;
both("INSERT INTO T VALUES (3, 'after')");
same('a crash', 2);

$node->stop;
done_testing();
