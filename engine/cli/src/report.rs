//! What a subcommand found, as sections of fields and tables; written as text or as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value};
use ssd_engine::{Error, Problem};

use crate::cells::Cell;

/// Everything that is to be said.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
    notes: Vec<String>,
    problems: Vec<Problem>,
}

/// A part of a report: fields, then rows.
#[derive(Default)]
pub(crate) struct Section {
    title: &'static str,
    fields: Vec<(&'static str, Cell)>,
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    /// Rows that were left out.
    more: u64,
}

impl Section {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, ..Self::default() }
    }

    pub(crate) fn table(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self { title, columns, ..Self::default() }
    }

    pub(crate) fn field(&mut self, name: &'static str, cell: impl Into<Cell>) {
        self.fields.push((name, cell.into()));
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Adds the row unless `limit` (0 is none) has been reached; then it is only counted.
    pub(crate) fn row_within(&mut self, limit: u64, cells: impl FnOnce() -> Vec<Cell>) {
        if limit != 0 && self.rows.len() as u64 >= limit {
            self.more += 1;
        } else {
            self.rows.push(cells());
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.title)?;
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, cell) in &self.fields {
            writeln!(out, "  {name:width$}  {}", cell.text())?;
        }
        if !self.columns.is_empty() {
            self.write_rows(out)?;
        }
        if self.more > 0 {
            writeln!(out, "  … {} more (--limit 0 shows all)", self.more)?;
        }
        Ok(())
    }

    fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = vec![self.columns.iter().map(|&name| (name.to_owned(), false)).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(|c| (c.text_in_table(), c.is_number())).collect()));
        let count = self.columns.len();
        let width = |at: usize| lines.iter().filter_map(|l| l.get(at)).map(|(t, _)| t.chars().count()).max();
        let widths: Vec<_> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
        // A heading stands over its numbers.
        let right: Vec<_> =
            (0..count).map(|at| self.rows.iter().any(|row| row.get(at).is_some_and(Cell::is_number))).collect();
        for (number, line) in lines.iter().enumerate() {
            let mut text = String::new();
            for (at, (cell, is_number)) in line.iter().enumerate() {
                let pad = " ".repeat(widths[at] - cell.chars().count());
                let to_the_right = *is_number || (number == 0 && right[at]);
                text += "  ";
                text += &if to_the_right { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let mut object: Map<_, _> = self.fields.iter().map(|(name, cell)| (json_name(name), cell.json())).collect();
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row).map(|(name, cell)| (json_name(name), cell.json()));
            Value::Object(cells.collect())
        };
        if !self.columns.is_empty() {
            object.insert("rows".to_owned(), Value::Array(self.rows.iter().map(row).collect()));
            object.insert("rows_left_out".to_owned(), Value::from(self.more));
        }
        Value::Object(object)
    }
}

fn json_name(name: &str) -> String {
    name.replace(' ', "_")
}

impl Report {
    pub(crate) fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Takes damage into the report; an error of another kind goes on to the caller.
    pub(crate) fn take(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        match outcome {
            Err(error @ Error::Corruption { .. }) => {
                self.problem(Problem::of(&error, "".as_ref()));
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(crate) fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json { self.write_json(out) } else { self.write_text(out) }
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        for section in &self.sections {
            section.write(out)?;
        }
        for problem in &self.problems {
            writeln!(out, "problem: {problem}")?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut object: Map<_, _> = self.sections.iter().map(|s| (json_name(s.title), s.json())).collect();
        object.insert("notes".to_owned(), Value::from(self.notes.clone()));
        let problem = |problem: &Problem| {
            let file = problem.path.display().to_string();
            let fields =
                [("file", Value::from(file)), ("offset", problem.offset.into()), ("what", problem.what.clone().into())];
            Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
        };
        object.insert("problems".to_owned(), Value::Array(self.problems.iter().map(problem).collect()));
        writeln!(out, "{:#}", Value::Object(object))
    }
}
