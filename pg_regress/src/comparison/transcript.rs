//! Cuts the output of a test at the statements that were echoed into it.
//!
//! psql under `pg_regress` prints every line of its script that is not empty, then what the statements that end on that
//! line return. So the lines of the script appear in the output in order, and what stands between two of them, if anything,
//! belongs to the statements that ended on the first. Lines of COPY data are not printed. isolationtester prints `step NAME: SQL`.

mod lexer;

use std::collections::BTreeMap;

pub(crate) use lexer::scan;

use super::Script;
use super::printed::trailing_messages;
use super::statement::{Open, Session, words};
use lexer::ScriptLine;

/// The lines that one or more statements printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<'t> {
    /// The echoed lines, up to the one on which the statements end.
    pub(crate) echo: Vec<&'t str>,
    /// What followed.
    pub(crate) output: Vec<&'t str>,
    /// Line in the output at which `output` starts, from 1.
    pub(crate) line: usize,
    /// What SQL leaves open.
    pub(crate) open: Open,
    /// The rows are lines of COPY.
    pub(crate) is_copy: bool,
}

impl<'t> Segment<'t> {
    const EMPTY: Segment<'static> = Segment {
        echo: Vec::new(),
        output: Vec::new(),
        line: 1,
        open: Open { rows: false, visits: false },
        is_copy: false,
    };

    /// All its lines, as they were printed.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &'t str> {
        self.echo.iter().chain(&self.output).copied()
    }

    /// The line to name it by.
    pub(crate) fn title(&self) -> &str {
        self.echo.iter().rev().find(|l| !l.trim().is_empty()).map_or("(start)", |l| l.trim())
    }
}

/// Reads the output of a script.
///
/// # Errors
/// When a line of the script is not echoed.
pub fn read<'t>(output: &'t str, script: Script<'_>) -> Result<Vec<Segment<'t>>, String> {
    let lines: Vec<&str> = output.lines().collect();
    match script {
        Script::Sql(sql) => read_sql(&lines, &lexer::lines(sql, &lines)),
        Script::Spec => Ok(read_spec(&lines)),
    }
}

/// From the next permutation on.
pub(super) fn next_permutation<'s, 't>(segments: &'s [Segment<'t>]) -> &'s [Segment<'t>] {
    let starts = |segment: &Segment<'_>| segment.echo[0].starts_with(PERMUTATION);
    &segments[segments.iter().position(starts).unwrap_or(segments.len())..]
}

/// What isolationtester prints before each order of the steps.
const PERMUTATION: &str = "starting permutation:";

fn read_sql<'t>(lines: &[&'t str], script: &[ScriptLine<'_>]) -> Result<Vec<Segment<'t>>, String> {
    let mut session = Session::default();
    let mut segments = Vec::new();
    let mut open: Segment<'t> = Segment::EMPTY;
    let mut at = 0;
    let mut has_ended = false;
    let mut line_is_open = false;
    for (number, line) in script.iter().enumerate().filter(|(_, line)| line.is_echoed) {
        let is_appended = line_is_open && lines.get(at).is_some_and(|l| l.ends_with(line.text));
        let found = if is_appended { Some(0) } else { lines[at..].iter().position(|l| *l == line.text) };
        line_is_open = ["\\echo -n ", "\\qecho -n ", "\\warn -n "].iter().any(|echo| line.text.starts_with(echo));
        let Some(found) = found else {
            return Err(format!("line {} of the script is not echoed: {}", number + 1, line.text));
        };
        if found > 0 || has_ended {
            open.output = lines[at..at + found].to_vec();
            open.line = at + 1;
            segments.push(open);
            open = Segment::EMPTY;
        }
        open.echo.push(lines[at + found]);
        at += found + 1;
        // All that ends on the line counts as one, so every part of it must be open.
        open.open = line.ended.iter().map(|s| session.open(s)).reduce(Open::and).unwrap_or_default();
        let copies = |part: &str| words(part).first().is_some_and(|word| word == "copy");
        open.is_copy = line.ended.iter().any(|s| s.split("\\;").any(copies));
        has_ended = !line.ended.is_empty();
    }
    open.output = lines[at..].to_vec();
    open.line = at + 1;
    segments.push(open);
    Ok(segments)
}

fn read_spec<'t>(lines: &[&'t str]) -> Vec<Segment<'t>> {
    let mut steps: BTreeMap<&str, Open> = BTreeMap::new();
    let mut segments: Vec<Segment<'t>> = Vec::new();
    for (index, &line) in lines.iter().enumerate() {
        let starts = line.starts_with("step ") || line.starts_with(PERMUTATION);
        match segments.last_mut() {
            Some(segment) if !starts => segment.output.push(line),
            _ => segments.push(Segment { echo: vec![line], output: Vec::new(), line: index + 2, ..Segment::EMPTY }),
        }
    }
    for segment in &mut segments {
        let Some((name, sql)) = segment.echo[0].strip_prefix("step ").and_then(|step| step.split_once(':')) else {
            continue;
        };
        segment.open = if sql.trim_start().starts_with("<... completed>") {
            steps.get(name).copied().unwrap_or_default()
        } else {
            let more = segment.output.iter().take_while(|line| !line.starts_with("ERROR:  "));
            // The last line before a rule of dashes has the names of the columns, which are no words of SQL that matter.
            let text: String = std::iter::once(sql).chain(more.copied()).flat_map(|line| [line, "\n"]).collect();
            let open = Session::default().open(&text);
            steps.insert(name, open);
            open
        };
    }
    give_messages_to_their_steps(&mut segments);
    segments
}

/// A step is echoed when it has ended or waits, what it raises until then stands before that.
fn give_messages_to_their_steps(segments: &mut [Segment<'_>]) {
    for at in 1..segments.len() {
        let (before, after) = segments.split_at_mut(at);
        let (before, after) = (&mut before[at - 1], &mut after[0]);
        if after.echo[0].starts_with("step ") {
            let messages = before.output.split_off(before.output.len() - trailing_messages(&before.output));
            after.output.splice(0..0, messages);
        }
    }
}
