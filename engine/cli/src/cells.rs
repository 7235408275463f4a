//! Values of a report, each with a form for people and one for machines.

use serde_json::Value;
use ssd_engine::base::ids::{Lsn, SeqNo};
use ssd_engine::base::key::Kind;

use crate::show;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    Number(u64),
    /// A count of bytes.
    Size(u64),
    /// A full key.
    Key(Vec<u8>),
    /// A value that somebody stored.
    Value(Vec<u8>),
    Flag(bool),
    Nothing,
}

impl Cell {
    /// Whether it stands to the right of its column.
    pub(crate) const fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Size(_))
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Size(bytes) => show::size(*bytes),
            Self::Key(key) => show::key(key),
            Self::Value(value) => show::value(value),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Nothing => "-".to_owned(),
        }
    }

    /// In a table sizes stand as plain numbers, so that columns compare.
    pub(crate) fn text_in_table(&self) -> String {
        match self {
            Self::Size(bytes) => bytes.to_string(),
            other => other.text(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) | Self::Size(number) => Value::from(*number),
            Self::Key(key) => Value::from(show::key(key)),
            Self::Value(value) => Value::from(show::bytes(value)),
            Self::Flag(flag) => Value::from(*flag),
            Self::Nothing => Value::Null,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<Lsn> for Cell {
    fn from(lsn: Lsn) -> Self {
        Self::Text(lsn.to_string())
    }
}

impl From<SeqNo> for Cell {
    fn from(seqno: SeqNo) -> Self {
        Self::Number(seqno.0)
    }
}

impl From<Kind> for Cell {
    fn from(kind: Kind) -> Self {
        Self::from(match kind {
            Kind::Delete => "delete",
            Kind::Put => "put",
            Kind::RangeDelete => "range delete",
        })
    }
}
