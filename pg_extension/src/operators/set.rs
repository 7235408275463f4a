//! Rows that a function returns to SQL.

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use ssd_engine::base::ids::Lsn;

/// A value of a row.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value.
    Null,
    /// `integer`.
    Int(i32),
    /// `bigint`.
    Big(i64),
    /// `double precision`.
    Float(f64),
    /// `boolean`.
    Bool(bool),
    /// `oid`.
    Oid(u32),
    /// `text`.
    Text(String),
    /// `pg_lsn`.
    Lsn(Lsn),
    /// `timestamp with time zone`, as the server counts it.
    Time(i64),
}

/// A count or a size as `bigint`.
#[must_use]
pub fn big(value: impl TryInto<i64>) -> Value {
    Value::Big(value.try_into().unwrap_or(i64::MAX))
}

impl Value {
    fn datum(self) -> Option<Datum> {
        match self {
            Self::Null => None,
            Self::Int(value) => value.into_datum(),
            Self::Big(value) | Self::Time(value) => value.into_datum(),
            Self::Float(value) => value.into_datum(),
            Self::Bool(value) => value.into_datum(),
            Self::Oid(value) => Some(Datum::from(value)),
            Self::Text(value) => value.into_datum(),
            Self::Lsn(value) => Some(Datum::from(value.0)),
        }
    }
}

/// The rows of one call.
pub struct Rows {
    info: *mut pg_sys::ReturnSetInfo,
}

impl Rows {
    /// Begins a set. Raises an error where no set can be returned.
    ///
    /// # Safety
    /// `call` is the present call of a function that is declared to return a set of rows.
    pub unsafe fn begin(call: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: guarded; the caller's promise.
        unsafe {
            pg_sys::InitMaterializedSRF(call, 0);
            Self { info: (*call).resultinfo.cast() }
        }
    }

    /// Adds a row: a value for each declared column.
    pub fn add(&mut self, values: impl IntoIterator<Item = Value>) {
        let data: Vec<_> = values.into_iter().map(Value::datum).collect();
        let mut nulls: Vec<bool> = data.iter().map(Option::is_none).collect();
        let mut data: Vec<Datum> = data.into_iter().map(|datum| datum.unwrap_or(Datum::null())).collect();
        // SAFETY: guarded; `begin` has made both parts, and the row has as many columns as were declared.
        unsafe {
            let info = &*self.info;
            assert_eq!(data.len(), (*info.setDesc).natts as usize, "the function is declared with other columns");
            pg_sys::tuplestore_putvalues(info.setResult, info.setDesc, data.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}
