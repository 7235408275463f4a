//! The child process: one spec in, one measurement out.

use std::io::Read;

use crate::Result;
use crate::spec::{Measured, Spec, Step, TxnStep};

/// Does what the JSON in `spec` says and prints what it measured as one line of JSON.
///
/// # Errors
/// A spec that makes no sense; whatever the store reports.
pub fn run(spec: &str, print: impl FnOnce(&str)) -> Result<()> {
    die_with_parent();
    let spec: Spec = serde_json::from_str(spec)?;
    let measured = run_on(&spec)?;
    print(&serde_json::to_string(&measured)?);
    Ok(())
}

/// Ends this process when its standard input closes, which is when its parent is gone.
fn die_with_parent() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        std::process::exit(1);
    });
}

fn run_on(spec: &Spec) -> Result<Measured> {
    if let Step::Txn(step) = spec.step {
        return run_transactions(spec, step);
    }
    match spec.store.as_str() {
        crate::store::OURS => crate::drive::run::<crate::store::ours::Ours>(spec),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => crate::drive::run::<crate::store::rocksdb::RocksDb>(spec),
        #[cfg(feature = "fjall")]
        "fjall" => crate::drive::run::<crate::store::fjall::Fjall>(spec),
        other => Err(format!("this build has no store \"{other}\"").into()),
    }
}

fn run_transactions(spec: &Spec, step: TxnStep) -> Result<Measured> {
    match spec.store.as_str() {
        crate::store::OURS => crate::txn::drive::run::<crate::txn::ours::Ours<false>>(spec, step),
        crate::txn::OURS_SERIALIZABLE => crate::txn::drive::run::<crate::txn::ours::Ours<true>>(spec, step),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => crate::txn::drive::run::<crate::txn::rocksdb::RocksDb>(spec, step),
        #[cfg(feature = "fjall")]
        "fjall" => crate::txn::drive::run::<crate::txn::fjall::Fjall>(spec, step),
        other => Err(format!("this build has no store with transactions \"{other}\"").into()),
    }
}
