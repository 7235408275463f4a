//! Layer 2: bytes in, values out. No file, no clock, no thread; every decoder takes any bytes without panicking.

pub mod batch;
pub mod block;
pub mod filter;
pub mod footer;
#[cfg(test)]
mod golden;
pub mod index;
pub mod log_buffer;
pub mod log_record;
pub mod log_segment;
pub mod range_del;
pub mod row_version;
pub mod txn_record;
pub mod version_edit;

/// What a decoder says about bytes that are not what the engine writes: the reason, for a person. The caller knows the
/// file and the offset and wraps it in [`Error::Corruption`](crate::error::Error::Corruption).
pub type Decoded<T> = Result<T, &'static str>;
