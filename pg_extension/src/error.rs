//! Errors of the engine as the server reports them, and the engine's log lines in the server's log.

use std::error::Error as _;
use std::fmt::Write as _;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use ssd_engine::{Class, Error};

/// The SQLSTATE of an engine error.
#[must_use]
pub fn sqlstate(error: &Error) -> PgSqlErrorCode {
    match error.class() {
        Class::Corruption => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        Class::Io if error.is_no_space() => PgSqlErrorCode::ERRCODE_DISK_FULL,
        Class::Io => PgSqlErrorCode::ERRCODE_IO_ERROR,
        Class::Conflict => PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        Class::Usage => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        Class::Closed => PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW,
    }
}

/// Raises `error`.
pub fn raise(error: &Error) -> ! {
    report(error, PgLogLevel::ERROR);
    unreachable!("an error does not return")
}

/// Ends the server with `error`: shared state can no longer be trusted.
pub fn panic(error: &Error) -> ! {
    report(error, PgLogLevel::PANIC);
    unreachable!("a panic does not return")
}

/// Reports `error` at `level`.
pub fn report(error: &Error, level: PgLogLevel) {
    let mut report = ErrorReport::new(sqlstate(error), error.to_string(), "ssdlsm");
    let mut causes = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(causes, "{}{cause}", if causes.is_empty() { "" } else { ": " });
        source = cause.source();
    }
    if !causes.is_empty() {
        report = report.set_detail(causes);
    }
    let hint = if error.hint().is_empty() { hint_of(error) } else { error.hint() };
    if !hint.is_empty() {
        report = report.set_hint(hint);
    }
    report.report(level);
}

/// What to do about an error of the engine that has no hint of its own.
fn hint_of(error: &Error) -> &'static str {
    match error.class() {
        Class::Corruption => {
            "Restore a backup. The command \"ssd-engine verify\" tells what is damaged in a stopped server's directory ssdlsm."
        }
        Class::Io if error.is_no_space() => "Check free disk space. Work goes on by itself once there is some.",
        _ => "",
    }
}

/// Raises that `what` is not supported.
pub fn unsupported(what: &str) -> ! {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("access method \"ssdlsm\" does not support {what}"),
        "ssdlsm",
    )
    .set_hint("The list of what is not supported is docs/compatibility.md in the source of ssdlsm.")
    .report(PgLogLevel::ERROR);
    unreachable!("an error does not return")
}

/// Raises an error with a hint.
pub fn fail(code: PgSqlErrorCode, message: impl Into<String>, hint: &str) -> ! {
    let mut report = ErrorReport::new(code, message.into(), "ssdlsm");
    if !hint.is_empty() {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an error does not return")
}

/// Raises an error with a detail and a hint.
pub fn fail_with_detail(code: PgSqlErrorCode, message: impl Into<String>, detail: String, hint: &str) -> ! {
    ErrorReport::new(code, message.into(), "ssdlsm").set_detail(detail).set_hint(hint).report(PgLogLevel::ERROR);
    unreachable!("an error does not return")
}

/// Takes the value out of an engine result, or raises its error.
pub trait OrRaise<T> {
    /// The value.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    #[inline]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(&error),
        }
    }
}

/// Sends what the engine has to tell to the server's log: warnings as such, the rest at a debug level.
pub fn forward_log() {
    // Fails when somebody was first, which only another library in this process can be.
    let _ = tracing::subscriber::set_global_default(Forward);
}

struct Forward;

impl tracing::Subscriber for Forward {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::DEBUG
    }
    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR | tracing::Level::WARN => PgLogLevel::LOG,
            tracing::Level::INFO => PgLogLevel::DEBUG1,
            _ => PgLogLevel::DEBUG2,
        };
        let message = format!("ssdlsm: {}{}", text.message, text.fields);
        ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "ssdlsm").report(level);
    }
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
