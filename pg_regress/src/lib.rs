//! comparison only for now
pub mod comparison;
