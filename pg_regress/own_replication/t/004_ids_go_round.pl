# Rows stay what they are while transaction ids go round: a server is sent far ahead, time and again and over the end of 32 bits, and a table
# of the default access method has to have the rows of a heap table throughout.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('long_running');
$node->init;
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;

# Otherwise its age would stop the server.
$node->safe_psql('postgres', "UPDATE pg_database SET datallowconn = true WHERE datname = 'template0'");

# Runs statements on each table in turn, with its name for T.
sub both
{
	my ($sql) = @_;
	foreach my $table ('mine', 'theirs')
	{
		(my $text = $sql) =~ s/\bT\b/$table/g;
		$node->safe_psql('postgres', $text);
	}
}

# All that a transaction can leave behind: rows that are new, changed, moved, deleted, and what was rolled back.
sub live
{
	my ($era) = @_;
	both("INSERT INTO T SELECT $era * 1000 + i, $era, 'new' FROM generate_series(1, 60) i");
	both("UPDATE T SET v = 'changed in $era' WHERE id % 7 = $era % 7");
	both("UPDATE T SET id = id + 100 WHERE era < $era AND id % 13 = $era % 13 AND id % 1000 < 100");
	both("DELETE FROM T WHERE id % 11 = $era % 11");
	both("BEGIN; UPDATE T SET v = 'never'; DELETE FROM T WHERE id % 2 = 0; INSERT INTO T VALUES ($era, $era, 'never'); ROLLBACK");
	both("BEGIN; SAVEPOINT a; UPDATE T SET v = 'never' WHERE id % 3 = 0; ROLLBACK TO a; "
		  . "UPDATE T SET v = 'kept in $era' WHERE id % 17 = $era % 17; COMMIT");
	same("in era $era");
}

sub same
{
	my ($when) = @_;
	my $all = 'SELECT id, era, v FROM %s ORDER BY id';
	my $theirs = $node->safe_psql('postgres', sprintf $all, 'theirs');
	isnt($theirs, '', "$when: there are rows");
	is($node->safe_psql('postgres', sprintf $all, 'mine'), $theirs, "$when: a scan finds them");
	is($node->safe_psql('postgres', 'SET enable_seqscan = off; SET enable_sort = off; ' . sprintf $all, 'mine'),
		$theirs, "$when: the index finds them");
}

# As if the server had run transactions up to this id. It wants to find the part of its commit log that this one is in.
sub send_ahead
{
	my ($xid) = @_;
	$node->stop;
	my $segment = sprintf '%s/pg_xact/%04X', $node->data_dir, int($xid / 1048576);
	if (!-e $segment)
	{
		open my $file, '>', $segment or die "$segment: $!";
		binmode $file;
		print $file "\0" x 262144;
		close $file or die "$segment: $!";
	}
	command_ok([ 'pg_resetwal', '-x', $xid, $node->data_dir ], "to transaction $xid");
	$node->start;
}

# What autovacuum does before ids run out.
sub freeze
{
	$node->command_ok([ 'vacuumdb', '--all', '--freeze', '--quiet' ], 'freeze');
	is($node->safe_psql('postgres', "SELECT age(relfrozenxid) < 1000 FROM pg_class WHERE relname = 'mine'"),
		't', 'the table is as young as its youngest row');
	same('after freezing');
}

both('CREATE TABLE T (id int, era int, v text)');
both('CREATE UNIQUE INDEX ON T (id)');
live(1);
my $era = 1;
foreach my $xid (1_500_000_000, 3_000_000_000, 4_294_967_096)
{
	send_ahead($xid);
	same("at $xid");
	live(++$era);
	freeze() if $xid < 4_000_000_000;
}
$node->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1..400 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
is($node->safe_psql('postgres', "SELECT pg_current_xact_id() > '4294967296'"), 't', 'ids have gone round');
same('beyond the end');
live(++$era);
$node->stop('immediate');
$node->start;
same('after a crash');
freeze();
send_ahead(1_200_000_000);
same('far into the second round');
live(++$era);
freeze();
$node->stop;
done_testing();
