//! A full disk under Postgres: statements fail with 53100, reads go on, no process dies, and work resumes when space returns.
//!
//! The data directory lies in a small file system of its own, mounted where only this process and its children see it.
//!
//! | scene | how the disk fills | what gives space back |
//! |---|---|---|
//! | creeping | rows are inserted until they are refused; log and data on one disk | a file is removed |
//! | dropping | the same | DROP TABLE |
//! | sudden | another file takes all that is left, to the last byte, under load; the log elsewhere | the file is removed |

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;
use ssd_pg_regress::account::{self, Account};
use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::installation::{INSTALL_HINT, Installation};
use ssd_pg_regress::program;
use ssd_pg_regress::suite::AccessMethod;

use super::server::{self, Blow, Processes, connect, discard, explain, text, wait_until};
use super::{Result, log};
use crate::rng::Rng;

/// Bytes of the file system.
const DISK: &str = "448m";
/// Bytes of the file that is removed to give space back.
const BALLAST: usize = 120 << 20;
/// Rows of one INSERT.
const ROWS: i64 = 500;
/// Sessions that insert in the sudden scene.
const WRITERS: usize = 3;
/// Statements that they get on by before the disk fills up, and after it has space again.
const STATEMENTS: i64 = 100;
/// Between a statement that was refused and the next one.
const RETRY: Duration = Duration::from_millis(20);
/// How long a full disk lasts.
const FULL: Duration = Duration::from_secs(6);

/// Logs that fit the disk, and little memory, so that files are written all the time.
const SETTINGS: &str = "\
max_wal_size = 64MB
min_wal_size = 48MB
checkpoint_timeout = 30s
log_line_prefix = '%m [%p:%b] '
";

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// What tables are made with.
    pub access_method: AccessMethod,
    /// The only scene to play.
    pub scene: Option<String>,
    /// Where the file system is mounted; what is there is hidden meanwhile.
    pub dir: PathBuf,
}

/// Plays a scene and says what was seen in it.
type Scene = fn(&Place) -> Result<String>;

/// Runs all scenes and returns how many failed. Only in a mount namespace of the caller's own.
///
/// # Errors
/// When there is no Postgres to run them on, or nothing can be mounted.
pub fn run(order: &Order, tell: &dyn Fn(&str)) -> Result<(u64, u64)> {
    let installation = text(Installation::find())?;
    if order.access_method == AccessMethod::Extension && !installation.has_extension() {
        return Err(format!("ssdlsm is not installed\nhint: {INSTALL_HINT}"));
    }
    let account = text(Account::find())?;
    let sockets = account::short_dir("disk");
    let (mut passed, mut failed) = (0, 0);
    let scenes = [("creeping", creeping as Scene), ("dropping", dropping), ("sudden", sudden)];
    for (name, scene) in scenes.into_iter().filter(|(name, _)| order.scene.as_deref().is_none_or(|only| only == *name))
    {
        let place = Place::new(order, &installation, &account, &sockets)?;
        let outcome = scene(&place).and_then(|said| log::check(&place.cluster.log(), 0).map(|()| said));
        match outcome {
            Ok(said) => {
                passed += 1;
                tell(&format!("{name}: {said}"));
            }
            Err(what) => {
                failed += 1;
                let log = fs::read_to_string(place.cluster.log()).unwrap_or_default();
                tell(&format!("{name}: FAILED: {what}\nthe end of the server's log:\n{}", program::last_lines(&log)));
            }
        }
        place.end()?;
    }
    let _ = fs::remove_dir_all(&sockets);
    Ok((passed, failed))
}

/// A cluster on a small disk.
struct Place {
    cluster: Cluster,
    settings: String,
    access_method: AccessMethod,
    disk: PathBuf,
    /// A directory on another disk.
    beside: PathBuf,
}

impl Place {
    fn new(order: &Order, installation: &Installation, account: &Account, sockets: &Path) -> Result<Self> {
        let (disk, beside) = (order.dir.join("disk"), order.dir.join("beside"));
        let _ = fs::remove_dir_all(&beside);
        text(account.make_dir(&order.dir))?;
        text(account.make_dir(&disk))?;
        text(account.make_dir(&beside))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=755"), "ssdb"]).arg(&disk);
        text(program::checked(&mut mount, "mount a small file system"))?;
        let cluster = text(Cluster::at(installation, account, &disk.join("data"), sockets, 5432))?;
        text(cluster.create())?;
        let own = match order.access_method {
            AccessMethod::Extension => "ssdlsm.memtable_size = 4MB\nssdlsm.memtables = 3\n",
            _ => "",
        };
        let settings = format!("{SETTINGS}{}{own}", order.access_method.server_settings());
        Ok(Self { cluster, settings, access_method: order.access_method, disk, beside })
    }

    /// Starts the server and makes tables.
    fn start(&self, tables: &[&str]) -> Result<Client> {
        text(self.cluster.start(&self.settings))?;
        let mut client = connect(&self.cluster)?;
        if let Some(statement) = self.access_method.create_statement() {
            client.batch_execute(&statement).map_err(|e| explain(&e))?;
        }
        for table in tables {
            let am = self.access_method.name();
            let make = format!("CREATE TABLE {table} (id bigserial PRIMARY KEY, body text NOT NULL) USING {am}");
            client.batch_execute(&make).map_err(|e| explain(&e))?;
        }
        Ok(client)
    }

    fn end(self) -> Result<()> {
        discard(&self.cluster, &[]);
        text(program::checked(Command::new("umount").arg("-l").arg(&self.disk), "unmount the small file system"))?;
        let _ = fs::remove_dir_all(&self.beside);
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.disk.join("ballast")
    }

    /// Writes the file that is removed later: so many more bytes, or all that there is room for.
    fn fill(&self, bytes: usize) -> Result<()> {
        let path = self.ballast();
        let open = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = open.map_err(|e| format!("could not create \"{}\": {e}", path.display()))?;
        let chunk = vec![0; 4096];
        for _ in 0..bytes / chunk.len() {
            match file.write_all(&chunk) {
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                other => other.map_err(|e| format!("could not write \"{}\": {e}", path.display()))?,
            }
        }
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        let path = self.ballast();
        fs::remove_file(&path).map_err(|e| format!("could not remove \"{}\": {e}", path.display()))
    }

    /// Whether the server is the one that was there before: nothing of it has died.
    fn must_live(&self, client: &mut Client, pid: i32) -> Result<()> {
        let now: i32 = client.query_one("SELECT pg_backend_pid()", &[]).map_err(|e| explain(&e))?.get(0);
        if now == pid { Ok(()) } else { Err("the session is another one".to_owned()) }
    }
}

fn pid(client: &mut Client) -> Result<i32> {
    client.query_one("SELECT pg_backend_pid()", &[]).map(|row| row.get(0)).map_err(|e| explain(&e))
}

/// Inserts some rows; `false` when they are refused for want of space.
fn insert(client: &mut Client, table: &str) -> Result<bool> {
    let body = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 8 + i * 0))";
    done(client.batch_execute(&format!("INSERT INTO {table} (body) SELECT {body} FROM generate_series(1, {ROWS}) i")))
}

/// Whether a statement was done; `false` when it was refused for want of space.
fn done(outcome: std::result::Result<(), postgres::Error>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::DISK_FULL) => Ok(false),
        Err(error) => Err(format!("a statement failed otherwise than for want of space: {}", explain(&error))),
    }
}

/// Inserts until rows are refused; how many are there.
fn insert_until_full(client: &mut Client, table: &str) -> Result<i64> {
    let mut rows = 0;
    while insert(client, table)? {
        rows += ROWS;
        if rows > 5_000_000 {
            return Err("the disk does not become full".to_owned());
        }
    }
    Ok(rows)
}

/// Checks that all rows are there: by a scan and by the index.
fn must_have(client: &mut Client, table: &str, rows: i64) -> Result<()> {
    for settings in ["SET enable_indexscan = off; SET enable_bitmapscan = off", "RESET ALL; SET enable_seqscan = off"] {
        client.batch_execute(settings).map_err(|e| explain(&e))?;
        let question = format!("SELECT count(*), count(DISTINCT id) FROM {table} WHERE id > 0 AND length(body) = 256");
        let row = client.query_one(&question, &[]).map_err(|e| format!("a read: {}", explain(&e)))?;
        let found: (i64, i64) = (row.get(0), row.get(1));
        if found != (rows, rows) {
            return Err(format!("{table} has {found:?} rows instead of {rows}"));
        }
    }
    client.batch_execute("RESET ALL").map_err(|e| explain(&e))
}

/// Tries to insert until it works again.
fn resume(client: &mut Client, table: &str) -> Result<()> {
    wait_until("an insert after space has returned", || insert(client, table))
}

/// What follows every scene: all of it once more after a checkpoint, a restart, and a crash.
fn must_survive(place: &Place, mut client: Client, table: &str, rows: i64) -> Result<()> {
    client.batch_execute("CHECKPOINT").map_err(|e| explain(&e))?;
    must_have(&mut client, table, rows)?;
    drop(client);
    let mut rng = Rng::new(1);
    for blow in [Blow::Stop("fast"), Blow::KillPostmaster] {
        let before = Processes::of(&place.cluster)?;
        server::strike(&place.cluster, blow, &before, &mut rng)?;
        server::revive(&place.cluster, blow, &before, &place.settings)?;
        must_have(&mut connect(&place.cluster)?, table, rows)?;
    }
    Ok(())
}

fn creeping(place: &Place) -> Result<String> {
    place.fill(BALLAST)?;
    let mut client = place.start(&["many"])?;
    let pid = pid(&mut client)?;
    let mut rows = insert_until_full(&mut client, "many")?;
    let (full, mut refused) = (Instant::now(), 0);
    while full.elapsed() < FULL {
        must_have(&mut client, "many", rows)?;
        rows += if insert(&mut client, "many")? { ROWS } else { 0 };
        for change in ["UPDATE many SET body = body WHERE id < 10", "DELETE FROM many WHERE id < 0"] {
            refused += u64::from(!done(client.batch_execute(change))?);
        }
    }
    if refused == 0 {
        return Err("no statement was refused on a full disk".to_owned());
    }
    place.must_live(&mut client, pid)?;
    place.give_back()?;
    resume(&mut client, "many")?;
    rows += ROWS;
    must_survive(place, client, "many", rows)?;
    Ok(format!("{rows} rows, {refused} statements refused, work resumed"))
}

fn dropping(place: &Place) -> Result<String> {
    let mut client = place.start(&["many", "other"])?;
    let rows = insert_until_full(&mut client, "many")?;
    let before = free(&place.disk)?;
    client.batch_execute("DROP TABLE many").map_err(|e| explain(&e))?;
    // What an access method keeps beside the table's files goes after the next checkpoint.
    client.batch_execute("CHECKPOINT").map_err(|e| explain(&e))?;
    resume(&mut client, "other")?;
    wait_until("the space of a dropped table", || Ok(free(&place.disk)? > before + (60 << 20)))?;
    must_survive(place, client, "other", ROWS)?;
    Ok(format!("a table of {rows} rows was dropped, work resumed"))
}

/// Bytes that are free in a file system.
fn free(dir: &Path) -> Result<u64> {
    let said = text(program::checked(
        Command::new("df").args(["--output=avail", "-B1"]).arg(dir),
        "tell what is free on the small file system",
    ))?;
    let number = said.lines().last().and_then(|line| line.trim().parse().ok());
    number.ok_or_else(|| format!("df said: {said}"))
}

fn sudden(place: &Place) -> Result<String> {
    let (wal, beside) = (place.cluster.data().join("pg_wal"), place.beside.join("pg_wal"));
    text(program::checked(Command::new("mv").arg(&wal).arg(&beside), "move the log to another disk"))?;
    symlink(&beside, &wal).map_err(|e| format!("could not link \"{}\": {e}", wal.display()))?;
    let mut client = place.start(&["many"])?;
    let pid = pid(&mut client)?;
    let (stop, written) = (AtomicBool::new(false), AtomicI64::new(0));
    let (rows, refused) = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| write_on(place, &stop, &written))).collect();
        let result = await_rows(&written).and_then(|()| suffer(place, &mut client));
        // Some more rows, once there is space.
        let result = result.and_then(|()| await_rows(&written));
        stop.store(true, Ordering::SeqCst);
        let mut sum = (0, 0);
        for writer in writers {
            let (rows, refused) = writer.join().map_err(|_| "a writer panicked".to_owned())??;
            sum = (sum.0 + rows, sum.1 + refused);
        }
        result.map(|()| sum)
    })?;
    if refused == 0 {
        return Err("no statement was refused on a full disk".to_owned());
    }
    place.must_live(&mut client, pid)?;
    resume(&mut client, "many")?;
    let rows = rows + ROWS;
    must_survive(place, client, "many", rows)?;
    Ok(format!("{rows} rows, {refused} statements refused, work resumed"))
}

/// Takes all space for a while, under load. Reads go on meanwhile.
fn suffer(place: &Place, client: &mut Client) -> Result<()> {
    place.fill(usize::MAX)?;
    let (full, mut reads) = (Instant::now(), 0);
    while full.elapsed() < FULL {
        // Again, since whatever freed something is to find nothing.
        place.fill(usize::MAX)?;
        let row = client.query_one("SELECT count(*), max(id) FROM many", &[]).map_err(|e| explain(&e))?;
        let (rows, last): (i64, Option<i64>) = (row.get(0), row.get(1));
        if rows % ROWS != 0 || last.unwrap_or(0) < rows {
            return Err(format!("a reader saw {rows} rows, the last {last:?}"));
        }
        reads += 1;
    }
    place.give_back()?;
    if reads > 1 { Ok(()) } else { Err("reads hang on a full disk".to_owned()) }
}

/// Waits until the writers have got on by some statements.
fn await_rows(written: &AtomicI64) -> Result<()> {
    let enough = written.load(Ordering::SeqCst) + STATEMENTS * ROWS;
    wait_until("rows of the writers", || Ok(written.load(Ordering::SeqCst) >= enough))
}

/// Inserts until told to stop; rows that were acknowledged, which `written` counts, too, and statements refused.
fn write_on(place: &Place, stop: &AtomicBool, written: &AtomicI64) -> Result<(i64, u64)> {
    let mut client = connect(&place.cluster)?;
    let (mut rows, mut refused) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        if insert(&mut client, "many")? {
            rows += ROWS;
            written.fetch_add(ROWS, Ordering::SeqCst);
        } else {
            refused += 1;
            thread::sleep(RETRY);
        }
    }
    Ok((rows, refused))
}
