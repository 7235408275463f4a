//! Any bytes as CURRENT.

use crate::manifest::current;

/// Must not panic on any input, and accepts only what it would write.
///
/// # Panics
/// When it accepts another text, which is a bug.
#[doc(hidden)]
pub fn fuzz_current(data: &[u8]) {
    if let Ok(number) = current::decode(data) {
        assert_eq!(current::encode(number), data, "one number has one text");
    }
}
