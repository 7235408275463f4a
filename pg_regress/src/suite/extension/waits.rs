//! Whether a session that waits inside the engine shows what for: the workers are stopped, and a session fills the memtables.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::DATABASE;
use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::program;

/// What the session shows then, as type and event.
const EXPECTED: &str = "LWLock SsdlsmMemtable";
/// How long it may take until it does.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far more rows than memtables of 1 MB have room for.
const FILL: &str =
    "CREATE TABLE filled USING ssdlsm AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 200000) g";

/// Workers that are stopped; they go on when this is dropped.
struct Stopped(Vec<String>);

impl Stopped {
    fn now(server: &Cluster) -> Result<Self> {
        let pids = server.sql(DATABASE, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'ssdlsm %'")?;
        let stopped = Self(pids.lines().map(str::to_owned).collect());
        program::checked(&mut program::kill("-STOP", &stopped.0), "stop the workers")?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the server is stopped soon.
        let _ = program::output(&mut program::kill("-CONT", &self.0));
    }
}

/// Runs the test; says what is wrong.
pub(super) fn test(server: &Cluster) -> Result<Option<String>> {
    let stopped = Stopped::now(server)?;
    let mut session = fill(server)?;
    let seen = await_event(server);
    drop(stopped);
    let status = session.wait().map_err(|e| Failure::new(format!("could not wait for psql: {e}")))?;
    server.sql(DATABASE, "DROP TABLE IF EXISTS filled")?;
    if !status.success() {
        return Ok(Some("the session that filled the memtables failed once the workers went on".to_owned()));
    }
    let seen = seen?;
    Ok((seen != EXPECTED).then(|| format!("a session that waits for a memtable shows `{seen}`, not `{EXPECTED}`")))
}

fn fill(server: &Cluster) -> Result<Child> {
    let mut command = server.client("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c", FILL]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|e| Failure::new(format!("could not start psql: {e}")))
}

/// What the session shows: the expected event as soon as it does, or the last other one.
fn await_event(server: &Cluster) -> Result<String> {
    const QUESTION: &str = "SELECT concat_ws(' ', wait_event_type, wait_event) FROM pg_stat_activity \
        WHERE query LIKE 'CREATE TABLE filled %'";
    let start = Instant::now();
    loop {
        let seen = server.sql(DATABASE, QUESTION)?;
        if seen == EXPECTED || start.elapsed() > PATIENCE {
            return Ok(seen);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
