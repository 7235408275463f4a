//! Rounds: load, a blow, revival, checks; with a standby that follows and base backups under load when asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use ssd_pg_regress::account::{self, Account};
use ssd_pg_regress::cluster::Cluster;
use ssd_pg_regress::installation::{INSTALL_HINT, Installation};
use ssd_pg_regress::suite::AccessMethod;

use super::backup::Way;
use super::bank::{self, WORKERS};
use super::check::{self, Bounds};
use super::server::{self, Blow, PATIENCE, Processes, connect, discard, explain, text};
use super::session::{self, Doubt, Ending, Shared};
use super::{Result, index, log};
use crate::rng::Rng;

/// Settings of every server. Small logs, so that checkpoints come by themselves, too.
const SETTINGS: &str = "\
max_prepared_transactions = 20
max_wal_size = 64MB
checkpoint_timeout = 30s
autovacuum_naptime = 1s
log_line_prefix = '%m [%p:%b] '
wal_keep_size = 2GB
wal_retrieve_retry_interval = 200ms
max_standby_streaming_delay = -1
max_standby_archive_delay = -1
";

/// Settings of the extension: little memory, so that files are written and merged all the time.
const EXTENSION_SETTINGS: &str = "\
ssdlsm.memtable_size = 1MB
ssdlsm.memtables = 3
ssdlsm.block_cache_size = 4MB
";

/// Rounds that a cluster lives.
const ROUNDS_OF_A_CLUSTER: u64 = 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Rounds.
    pub rounds: u64,
    /// Chooses everything but the moments.
    pub seed: u64,
    /// What tables are made with.
    pub access_method: AccessMethod,
    /// Whether a standby follows, and base backups are taken.
    pub standby: bool,
    /// Where clusters go.
    pub dir: PathBuf,
}

/// A cluster with its past.
struct Stage {
    primary: Cluster,
    standby: Option<Cluster>,
    /// Where a base backup is restored.
    copy: Cluster,
    settings: String,
    seed: u64,
    /// The last number of each worker.
    last: Vec<u64>,
}

/// Runs all rounds and returns how many failed.
///
/// # Errors
/// When there is no Postgres to run them on.
pub fn run(order: &Order, tell: &dyn Fn(&str)) -> Result<u64> {
    let installation = text(Installation::find())?;
    if order.access_method == AccessMethod::Extension && !installation.has_extension() {
        return Err(format!("ssdlsm is not installed\nhint: {INSTALL_HINT}"));
    }
    let account = text(Account::find())?;
    text(account.make_dir(&order.dir))?;
    let sockets = account::short_dir("crash");
    let mut rng = Rng::new(order.seed);
    let (mut failed, mut stage) = (0, None::<Stage>);
    for number in 1..=order.rounds {
        if number % ROUNDS_OF_A_CLUSTER == 1 {
            end(stage.take(), order);
        }
        let mut said = String::new();
        let result = match &mut stage {
            Some(stage) => round(stage, &mut rng, &mut said),
            none => Stage::new(order, &installation, &account, &sockets, &mut rng)
                .and_then(|new| round(none.insert(new), &mut rng, &mut said)),
        };
        match result {
            Ok(()) => tell(&format!("round {number}: {said}")),
            Err(what) => {
                tell(&format!("round {number}: FAILED (seed {}): {said}\n  {what}", order.seed));
                keep(stage.take(), order, number, tell);
                failed += 1;
            }
        }
    }
    end(stage, order);
    let _ = fs::remove_dir_all(&sockets);
    Ok(failed)
}

/// Throws a cluster away.
fn end(stage: Option<Stage>, order: &Order) {
    if let Some(stage) = stage {
        stage.clusters().for_each(|cluster| discard(cluster, &[]));
    }
    for name in ["primary", "standby", "copy"] {
        let _ = fs::remove_dir_all(order.dir.join(name));
    }
}

/// Stops a cluster that failed and keeps its directories, with the servers' logs in them.
fn keep(stage: Option<Stage>, order: &Order, number: u64, tell: &dyn Fn(&str)) {
    let kept = order.dir.join(format!("failed-{}-{number}", order.seed));
    let _ = fs::remove_dir_all(&kept);
    if let Err(e) = fs::create_dir_all(&kept) {
        tell(&format!("  could not keep it: \"{}\": {e}", kept.display()));
    }
    if let Some(stage) = &stage {
        for cluster in stage.clusters() {
            discard(cluster, &[]);
            let name = cluster.data().file_name().unwrap_or_default();
            // The copy exists in some rounds only.
            let _ = fs::rename(cluster.data(), kept.join(name));
        }
        tell(&format!("  its clusters are in {}, with server.log in each", kept.display()));
    }
    end(stage, order);
}

impl Stage {
    fn new(
        order: &Order,
        installation: &Installation,
        account: &Account,
        sockets: &Path,
        rng: &mut Rng,
    ) -> Result<Self> {
        let place = |name: &str, port| {
            let cluster = text(Cluster::at(installation, account, &order.dir.join(name), sockets, port))?;
            // Left over from a run that was broken off.
            discard(&cluster, &[cluster.data().to_owned()]);
            Ok::<_, String>(cluster)
        };
        let (primary, follower, copy) = (place("primary", 5432)?, place("standby", 5433)?, place("copy", 5434)?);
        let own = if order.access_method == AccessMethod::Extension { EXTENSION_SETTINGS } else { "" };
        let settings = format!("{SETTINGS}{}{own}", order.access_method.server_settings());
        text(primary.create())?;
        text(primary.start(&settings))?;
        let mut stage =
            Self { primary, standby: None, copy, settings, seed: rng.next(), last: vec![0; WORKERS as usize] };
        if let Err(what) = stage.fill(order, follower) {
            discard(&stage.primary, &[]);
            return Err(what);
        }
        Ok(stage)
    }

    /// Makes the tables, and the standby if there is to be one.
    fn fill(&mut self, order: &Order, follower: Cluster) -> Result<()> {
        if let Some(statement) = order.access_method.create_statement() {
            text(self.primary.sql("postgres", &statement))?;
        }
        text(self.primary.sql("postgres", "CREATE EXTENSION amcheck"))?;
        text(self.primary.sql("postgres", &bank::schema(order.access_method.name())))?;
        if order.standby {
            text(follower.create_standby_of(&self.primary))?;
            text(follower.start(&self.settings))?;
            self.standby = Some(follower);
        }
        Ok(())
    }

    fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        [Some(&self.primary), self.standby.as_ref(), Some(&self.copy)].into_iter().flatten()
    }
}

/// The sessions of a round, each in a thread.
struct Load {
    shared: Arc<Shared>,
    endings: mpsc::Receiver<(usize, Ending)>,
}

/// The reader and the one that keeps house, after the workers.
const SESSIONS: usize = WORKERS as usize + 2;

impl Load {
    fn start(stage: &Stage, rng: &mut Rng) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, endings) = mpsc::channel();
        for session in 0..SESSIONS {
            let mut client = connect(&stage.primary)?;
            let (shared, sender, mut rng) = (Arc::clone(&shared), sender.clone(), Rng::new(rng.next()));
            let (seed, next) = (stage.seed, stage.last.get(session).map_or(0, |last| last + 1));
            if let Some(acknowledged) = shared.acknowledged.get(session) {
                acknowledged.store(next - 1, Ordering::SeqCst);
            }
            thread::spawn(move || {
                let ending = match SESSIONS - session {
                    1 => session::keep_house(&mut client, &shared, &mut rng),
                    2 => session::read(&mut client, &shared),
                    _ => session::work(&mut client, &shared, seed, session as u64, next, &mut rng),
                };
                // Nobody listens any more when the round was given up.
                let _ = sender.send((session, ending));
            });
        }
        Ok(Self { shared, endings })
    }

    fn acknowledged(&self) -> Vec<u64> {
        self.shared.acknowledged.iter().map(|number| number.load(Ordering::SeqCst)).collect()
    }

    /// Waits until all sessions have lost their connections; what each worker may have committed.
    fn end(self) -> Result<Vec<Bounds>> {
        let mut doubts = vec![Doubt::None; SESSIONS];
        let mut fault = None;
        for _ in 0..SESSIONS {
            match self.endings.recv_timeout(PATIENCE) {
                Ok((session, Ending::Gone(doubt))) => doubts[session] = doubt,
                Ok((_, Ending::Fault(what))) => {
                    fault.get_or_insert(what);
                }
                Err(_) => return Err(fault.unwrap_or_else(|| "sessions do not end after the blow: a hang".to_owned())),
            }
        }
        match fault {
            Some(what) => Err(what),
            None => Ok(self.acknowledged().into_iter().zip(doubts).map(|(n, doubt)| Bounds::after(n, doubt)).collect()),
        }
    }
}

fn round(stage: &mut Stage, rng: &mut Rng, said: &mut String) -> Result<()> {
    let from: Vec<u64> = stage.clusters().map(|cluster| log::length(&cluster.log())).collect();
    let load = Load::start(stage, rng)?;
    thread::sleep(Duration::from_millis(100 + rng.below(1500)));
    let mut copied = None;
    if let Some(standby) = stage.standby.as_ref().filter(|_| rng.one_in(2)) {
        let (way, low) = (Way::choose(rng), load.acknowledged());
        way.take(&stage.primary, standby, &stage.copy).map_err(|e| format!("{}: {e}", way.name()))?;
        copied = Some((way, low));
    }
    let follower_blow = match &stage.standby {
        Some(standby) if rng.one_in(2) => Some(beat(standby, &stage.settings, rng)?),
        _ => None,
    };
    let before = Processes::of(&stage.primary)?;
    let blow = Blow::choose(&stage.primary, rng)?;
    *said = blow.name();
    if let Some(blow) = follower_blow {
        *said += &format!(", {} on the standby", blow.name());
    }
    server::strike(&stage.primary, blow, &before, rng)?;
    let bounds = load.end()?;
    server::revive(&stage.primary, blow, &before, &stage.settings)?;
    let mut client = connect(&stage.primary)?;
    let done: u64 = stage.last.iter().sum();
    stage.last = check::everything(&mut client, stage.seed, &bounds, rng)?;
    *said += &format!(", {} commits", stage.last.iter().sum::<u64>() - done);
    if let Some(standby) = &stage.standby {
        follow(stage, standby).map_err(|what| format!("the standby: {what}"))?;
        said.push_str(", standby equal");
    }
    if let Some((way, low)) = copied {
        restore(stage, &low, rng).map_err(|what| format!("{}, restored: {what}", way.name()))?;
        *said += &format!(", {} consistent", way.name());
    }
    let logs = stage.clusters().map(Cluster::log).zip(from);
    logs.filter(|(path, _)| path.is_file()).try_for_each(|(path, from)| log::check(&path, from))
}

/// Strikes the standby and revives it.
fn beat(standby: &Cluster, settings: &str, rng: &mut Rng) -> Result<Blow> {
    let before = Processes::of(standby)?;
    let blow = loop {
        let blow = Blow::choose(standby, rng)?;
        if blow != Blow::Kill("client backend") {
            break blow;
        }
    };
    let what = |e: String| format!("{} on the standby: {e}", blow.name());
    server::strike(standby, blow, &before, rng).map_err(what)?;
    if !blow.is_final() {
        // It is down once it has begun to start again; before that it may still answer.
        before.wait_for_children().map_err(what)?;
    }
    server::revive(standby, blow, &before, settings).map_err(what)?;
    Ok(blow)
}

/// Waits for the standby and compares it with its primary.
fn follow(stage: &Stage, standby: &Cluster) -> Result<()> {
    text(stage.primary.wait_for(standby))?;
    let (mut first, mut second) = (connect(&stage.primary)?, connect(standby)?);
    let (expected, found) = (index::tables(&mut first)?, index::tables(&mut second)?);
    if expected != found {
        return Err(format!("its tables {:?} hold {found:?} instead of {expected:?}", bank::TABLES));
    }
    index::check(&mut second)
}

/// Starts the copy as a server of its own and checks it: all that was acknowledged before the backup began is there.
fn restore(stage: &Stage, low: &[u64], rng: &mut Rng) -> Result<()> {
    text(stage.copy.start(&stage.settings))?;
    let mut client = connect(&stage.copy)?;
    let bounds: Vec<Bounds> = low.iter().zip(&stage.last).map(|(low, high)| Bounds::between(*low, *high)).collect();
    check::everything(&mut client, stage.seed, &bounds, rng)?;
    client.batch_execute("INSERT INTO items VALUES (-1, 0, 0, 0, 'new')").map_err(|e| explain(&e))?;
    drop(client);
    log::check(&stage.copy.log(), 0)?;
    text(stage.copy.stop("fast"))?;
    discard(&stage.copy, &[stage.copy.data().to_owned()]);
    Ok(())
}
