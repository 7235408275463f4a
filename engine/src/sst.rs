//! Layer 3: sorted string tables. Immutable files of blocks, an index, a filter and a footer.

mod blocks;
pub mod iter;
mod output;
mod read_ahead;
pub mod reader;
mod verify;
mod window;
pub mod writer;

pub use iter::{ReadAhead, SstIter};
pub use reader::{Located, SstReader};
pub use writer::{CacheFill, SstOptions, SstSummary, SstWriter};

#[cfg(test)]
mod tests;
