//! What the transactions of one open engine share: the manager, the rows and their locks.

use std::sync::Arc;

use crate::base::ids::{TreeId, TxnId};
use crate::db::core::Core;
use crate::error::{Error, Result};
use crate::lsm::Lsm;
use crate::lsm::row_host::TreeKind;
use crate::mem::lock_table::LockHash;
use crate::mvcc::latch::ProcessLatches;
use crate::mvcc::row_locks::{Mode, RowLocks};
use crate::mvcc::rows::RowStore;
use crate::mvcc::txn::{Outsider, SystemTrees, TxnManager, TxnOptions};

/// First byte of the names of the engine's own trees.
pub(crate) const SYSTEM_NAME: u8 = 0;
const STATUS: &[u8] = b"\0transactions";
const PREPARED: &[u8] = b"\0prepared transactions";
const LOCKS: &[u8] = b"\0row locks";

/// See the module.
pub(crate) struct Transactions {
    pub(crate) manager: Arc<TxnManager>,
    pub(crate) rows: RowStore,
}

impl Transactions {
    /// Whether the engine has had transactions.
    pub(crate) fn exist(lsm: &Lsm) -> Result<bool> {
        Ok(lsm.find_tree(STATUS)?.is_some())
    }

    /// Opens them, creating their trees when there are none.
    pub(crate) fn open(lsm: &Arc<Lsm>) -> Result<Arc<Self>> {
        let trees = SystemTrees {
            status: lsm.open_tree(STATUS, TreeKind::Values)?,
            prepared: lsm.open_tree(PREPARED, TreeKind::Values)?,
        };
        let spill = lsm.open_tree(LOCKS, TreeKind::Locks)?;
        let options = TxnOptions { deadlock_timeout: lsm.options.deadlock_timeout, ..TxnOptions::default() };
        let manager = TxnManager::open(Arc::clone(lsm), trees, options)?;
        let locks = RowLocks::new(Arc::clone(lsm), spill);
        let rows = RowStore::new(Arc::clone(lsm), Arc::new(ProcessLatches::default()), locks);
        let opened = Arc::new(Self { manager, rows });
        opened.restore_row_locks()?;
        // Set once: whoever comes second finds the same host.
        let _ = lsm.row_host.set(opened.manager.row_host());
        Ok(opened)
    }

    /// Takes the row locks of prepared transactions again.
    fn restore_row_locks(&self) -> Result<()> {
        for prepared in self.manager.prepared() {
            for lock in decode_locks(&prepared.row_locks)? {
                self.rows.locks().add(lock.hash, lock.owner, lock.mode, &Outsider(&self.manager))?;
            }
        }
        Ok(())
    }
}

/// A row lock as its transaction remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldLock {
    pub(crate) hash: LockHash,
    pub(crate) owner: TxnId,
    pub(crate) mode: Mode,
}

/// Row locks as a prepared transaction keeps them: 16 bytes of hash, 8 of owner, 1 of mode each, big-endian.
pub(crate) fn encode_locks(locks: &[HeldLock]) -> Vec<u8> {
    let mut out = Vec::with_capacity(locks.len() * LOCK_LEN);
    for lock in locks {
        out.extend_from_slice(&lock.hash.0.to_be_bytes());
        out.extend_from_slice(&lock.owner.0.to_be_bytes());
        out.push(lock.mode as u8);
    }
    out
}

const LOCK_LEN: usize = 25;

fn decode_locks(bytes: &[u8]) -> Result<Vec<HeldLock>> {
    let damaged = || Error::usage("row locks of a prepared transaction are damaged", "Roll it back.");
    let (records, rest) = bytes.as_chunks::<LOCK_LEN>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    let lock = |record: &[u8; LOCK_LEN]| {
        let (hash, rest) = record.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let mode = Mode::from_number(u32::from(*rest.first()?))?;
        let owner = TxnId(u64::from_be_bytes(*owner));
        Some(HeldLock { hash: LockHash(u128::from_be_bytes(*hash)), owner, mode })
    };
    records.iter().map(|record| lock(record).ok_or_else(damaged)).collect()
}

/// Whether a tree is the engine's own.
pub(crate) fn is_system_name(name: &[u8]) -> bool {
    name.first() == Some(&SYSTEM_NAME)
}

/// The error for a user's tree with a name that is reserved.
pub(crate) fn reserved_name(name: &[u8]) -> Error {
    Error::usage(
        format!("tree name \"{}\" is reserved", name.escape_ascii()),
        "Choose a name that does not start with a zero byte.",
    )
}

/// One tree of rows.
#[derive(Clone)]
pub struct RowTree {
    pub(crate) id: TreeId,
    pub(crate) core: Arc<Core>,
}

impl RowTree {
    /// The number that names this tree for ever.
    #[must_use]
    pub const fn id(&self) -> TreeId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_locks_read_back() {
        let locks: Vec<_> = [(1, 7, Mode::KeyShare), (u128::MAX, u64::MAX, Mode::Update)]
            .map(|(hash, owner, mode)| HeldLock { hash: LockHash(hash), owner: TxnId(owner), mode })
            .into();
        let bytes = encode_locks(&locks);
        assert_eq!(decode_locks(&bytes).unwrap(), locks);
        assert!(decode_locks(&bytes[1..]).is_err());
        assert!(decode_locks(&[0; LOCK_LEN]).is_err(), "there is no mode 0");
    }
}
