//! Where the server's C begins: functions the bindings lack, and the guard.

pub mod externs;
