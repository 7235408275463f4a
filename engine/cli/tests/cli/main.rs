//! The command as its users meet it: golden output, damaged files, repair, real files.
#![expect(clippy::unwrap_used, reason = "what fails here is a test, in its helpers, too")]

mod damage;
mod golden;
mod real;
mod repair;
mod sample;
