//! Entry points for fuzzing, one per decoder: any bytes must come back as a value or an error.

pub mod batch;
pub mod block;
pub mod current;
pub mod filter;
pub mod footer;
pub mod index;
pub mod key;
pub mod log_buffer;
pub mod log_record;
pub mod manifest;
pub mod range_del;
pub mod row_version;
pub mod txn_record;
pub mod version_edit;
pub mod wal_segment;
